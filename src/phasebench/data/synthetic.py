"""A seeded source of text with long-range structure whose entropy rate is known exactly.

A row is a title and S sentences about it; the optional adverb makes their length vary:

    NAME : NAME VERB [ADVERB] DET NOUN . NAME VERB [ADVERB] DET NOUN . ... <eos>

    NAME    Zipf over the names in the title; copied from the title in every sentence (0 nats, up to the whole row back)
    VERB    Markov chain over the sentences: p(verb | verb of the sentence before), the first from its stationary law
    ADVERB  p(adverb or none | verb)
    DET     agrees with the class of the name (0 nats)
    NOUN    p(noun | verb, class of the name)

Every conditional is a finite table, drawn once from a Dirichlet distribution and mixed with a little of the uniform
one. So the surprisal of a text, -ln p, is a sum of table look-ups, and the entropy of a row a sum of the tables'
entropies under the stationary law pi of the verbs and the law of the classes c (chain rule):

    H(row) = H(name) + H(pi) + (S - 1) sum_v pi_v H(verb | v) + S sum_vc pi_v p(c) [H(adverb | v) + H(noun | v, c)]

A model whose perplexity on fresh text of the source is below its floor sees what it should predict.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

EOS = "<eos>"
NAMES, CLASSES, VERBS, ADVERBS, NOUNS, SENTENCES = 40, 3, 16, 10, 120, 8
CONCENTRATION = (
    0.05  # of the Dirichlet distributions: a table has a few likely words and many rare ones
)
UNIFORM = 0.02  # share of the uniform distribution in every table: each word stays possible, the chain ergodic
NO_ADVERB = 0.5  # probability that a sentence has no adverb


@dataclass(frozen=True)
class Table:
    """A distribution over words: ``words`` and their probabilities ``p``, cumulated in ``upto``, by word in ``of``."""

    words: tuple[str, ...]
    p: np.ndarray
    upto: list[float]
    of: dict[str, float]

    @property
    def entropy(self) -> float:
        """-sum p ln p, in nats."""
        return float(-(self.p * np.log(self.p)).sum())

    def draw(self, uniform: float) -> str:
        """The word at the quantile ``uniform`` in [0, 1)."""
        return self.words[min(bisect(self.upto, uniform), len(self.words) - 1)]


def _table(words: Sequence[str], p: np.ndarray) -> Table:
    return Table(tuple(words), p, np.cumsum(p).tolist(), dict(zip(words, p.tolist(), strict=True)))


class State(NamedTuple):
    """What the next word depends on: the slot it fills, the row's name, the last verb, sentences before this one."""

    slot: str
    name: str
    verb: str
    sentence: int


START = State("title", "", "", 0)


class SyntheticSource:
    """The source with the given seed: the same tables on every machine and in every version of the libraries.

    >>> source = SyntheticSource(0)
    >>> row = source.rows(1, seed=1)[0]
    >>> name = row.split()[0]
    >>> source.distribution([name, ":"]) == {name: 1.0}
    True
    """

    def __init__(self, seed: int) -> None:
        # numpy promises the stream of RandomState for ever, that of its newer Generator only for a version
        self.seed = seed
        rng = np.random.RandomState([seed, 0])
        self.names, self.verbs, self.adverbs, self.dets, self.nouns = _lexicon(rng)
        transitions = _conditionals(rng, VERBS, VERBS)
        self.stationary = _stationary(transitions)
        self.class_of = {name: i % CLASSES for i, name in enumerate(self.names)}
        zipf = 1.0 / np.arange(1, NAMES + 1)
        self._title = _table(self.names, zipf / zipf.sum())
        self._verb = {
            v: _table(self.verbs, p) for v, p in zip(self.verbs, transitions, strict=True)
        }
        self._first_verb = _table(self.verbs, self.stationary)
        self._adverb = self._adverb_tables(_conditionals(rng, VERBS, ADVERBS))
        self._noun = {
            (verb, c): _table(self.nouns, p)
            for c in range(CLASSES)
            for verb, p in zip(self.verbs, _conditionals(rng, VERBS, NOUNS), strict=True)
        }
        self._sure = {
            word: _table([word], np.ones(1)) for word in (*self.names, *self.dets, ":", ".", EOS)
        }

    def _adverb_tables(self, rows: np.ndarray) -> dict[tuple[str, int], Table]:
        # no adverb means that the determiner comes at once
        with_none = np.concatenate([np.full((VERBS, 1), NO_ADVERB), (1 - NO_ADVERB) * rows], axis=1)
        return {
            (verb, c): _table([det, *self.adverbs], p)
            for c, det in enumerate(self.dets)
            for verb, p in zip(self.verbs, with_none, strict=True)
        }

    @property
    def lexicon(self) -> list[str]:
        """Every word that the source can utter, without <eos>."""
        return [*self.names, *self.verbs, *self.adverbs, *self.dets, *self.nouns, ":", "."]

    @property
    def entropy_rate(self) -> float:
        """Nats per word (<eos> included): the entropy of a row by its mean number of words."""
        return self._row_entropy() / self._row_words()

    def _row_entropy(self) -> float:
        classes = np.zeros(CLASSES)
        for name, p in self._title.of.items():
            classes[self.class_of[name]] += p
        verb = adverb = noun = 0.0
        for v, weight in zip(self.verbs, self.stationary.tolist(), strict=True):
            verb += weight * self._verb[v].entropy
            adverb += weight * self._adverb[v, 0].entropy
            noun += weight * sum(
                p * self._noun[v, c].entropy for c, p in enumerate(classes.tolist())
            )
        first = self._title.entropy + self._first_verb.entropy
        return first + (SENTENCES - 1) * verb + SENTENCES * (adverb + noun)

    def _row_words(self) -> float:
        return 2 + SENTENCES * (5 + 1 - NO_ADVERB) + 1  # title and colon, sentences, <eos>

    def rows(self, n: int, seed: int) -> list[str]:
        """``n`` independent rows; ``seed`` is of this text, the source's own seed of its tables."""
        rng = np.random.RandomState([self.seed, 1, seed])
        return [self._row(rng) for _ in range(n)]

    def _row(self, rng: np.random.RandomState) -> str:
        words, state = [], START
        while True:
            table = self._next(state)
            word = table.words[0] if len(table.words) == 1 else table.draw(rng.random_sample())
            if word == EOS:
                return " ".join(words)
            words.append(word)
            state = self._step(state, word)

    def surprisal(self, rows: Sequence[str]) -> float:
        """-ln p of the rows and their <eos>, in nats; infinite for a row that the source cannot utter."""
        return sum(self._row_surprisal([*row.split(), EOS]) for row in rows)

    def _row_surprisal(self, words: Sequence[str]) -> float:
        nats, state = 0.0, START
        for word in words:
            p = self._next(state).of.get(word, 0.0)
            if p == 0.0:
                return float("inf")
            nats -= float(np.log(p))
            state = self._step(state, word)
        return nats

    def distribution(self, words_so_far: Sequence[str]) -> dict[str, float]:
        """The exact distribution of the next word, given the words of the row so far; words not in it cannot follow.

        Raises ValueError if the source cannot utter ``words_so_far``, or if they end with <eos>.
        """
        state = START
        for position, word in enumerate(words_so_far):
            if word == EOS or word not in self._next(state).of:
                raise ValueError(
                    f"the source cannot utter {word!r} at position {position} of {list(words_so_far)}"
                )
            state = self._step(state, word)
        return dict(self._next(state).of)

    def _next(self, state: State) -> Table:
        slot, name, verb, _ = state
        if slot == "title":
            return self._title
        if slot == "verb":
            return self._verb[verb] if verb else self._first_verb
        if slot == "adverb":
            return self._adverb[verb, self.class_of[name]]
        if slot == "noun":
            return self._noun[verb, self.class_of[name]]
        sure = {"colon": ":", "stop": ".", "end": EOS, "name": name}
        return self._sure[sure[slot] if slot in sure else self.dets[self.class_of[name]]]

    def _step(self, state: State, word: str) -> State:
        slot, name, verb, sentence = state
        if slot == "title":
            return State("colon", word, "", 0)
        if slot == "verb":
            return State("adverb", name, word, sentence)
        if slot == "adverb":
            return State("noun" if word in self.dets else "det", name, verb, sentence)
        if slot == "stop":
            return State("name" if sentence + 1 < SENTENCES else "end", name, verb, sentence + 1)
        after = {"colon": "name", "name": "verb", "det": "noun", "noun": "stop", "end": "end"}
        return State(after[slot], name, verb, sentence)


def _lexicon(
    rng: np.random.RandomState,
) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """Names, verbs, adverbs, determiners and nouns: different words, made of open syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    stems = [a + b for a in syllables for b in syllables]
    order = iter(rng.permutation(len(stems)).tolist())

    def take(n: int, prefix: str = "", suffix: str = "") -> list[str]:
        return [prefix + stems[next(order)] + suffix for _ in range(n)]

    names = [stem.capitalize() for stem in take(NAMES)]
    return (
        names,
        take(VERBS, suffix="s"),
        take(ADVERBS, suffix="ly"),
        take(CLASSES, prefix="e"),
        take(NOUNS),
    )


def _conditionals(rng: np.random.RandomState, rows: int, words: int) -> np.ndarray:
    """One distribution over ``words`` a row."""
    return (1 - UNIFORM) * rng.dirichlet(np.full(words, CONCENTRATION), size=rows) + UNIFORM / words


def _stationary(transitions: np.ndarray) -> np.ndarray:
    """The law pi with pi P = pi: the solution of that system with one equation replaced by sum(pi) = 1."""
    n = len(transitions)
    system = transitions.T - np.eye(n)
    system[-1] = 1.0
    return np.linalg.solve(system, np.eye(n)[-1])
