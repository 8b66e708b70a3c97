"""A seeded source of text with long-range structure whose entropy rate is known exactly.

A row is a title and S sentences about it; the optional adverb makes their length vary:

    NAME : NAME VERB [ADVERB] DET NOUN . NAME VERB [ADVERB] DET NOUN . ... <eos>

    NAME    Zipf over the names in the title; then copied from it (0 nats, up to a whole row back)
    VERB    Markov chain: p(verb | verb of the sentence before), the first from its stationary law
    ADVERB  p(adverb or none | verb)
    DET     agrees with the class of the name (0 nats)
    NOUN    p(noun | verb, class of the name)

Every conditional is a finite table, drawn once from a Dirichlet distribution and mixed with a
little of the uniform one. So the surprisal of a text, -ln p, is a sum of table look-ups, and the
entropy of a row a sum of the tables' entropies under the stationary law pi of the verbs and the law
of the classes c (chain rule):

    H(row) = H(name) + H(pi) + (S - 1) sum_v pi_v H(verb | v)
             + S sum_vc pi_v p(c) [H(adverb | v) + H(noun | v, c)]

A model whose perplexity on fresh text of the source is below its floor sees what it should predict.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Generator, Iterator, Sequence
from itertools import islice

import numpy as np

EOS = "<eos>"
NAMES, CLASSES, VERBS, ADVERBS, NOUNS, SENTENCES = 40, 3, 16, 10, 120, 8
# of the Dirichlet distributions: a table has a few likely words and many rare ones
CONCENTRATION = 0.05
# share of the uniform distribution in every table: each word stays possible, the chain ergodic
UNIFORM = 0.02
NO_ADVERB = 0.5  # probability that a sentence has no adverb


class Table:
    """A distribution over words: their probabilities, by word in ``of``, in order in ``p``."""

    def __init__(self, words: Sequence[str], p: np.ndarray) -> None:
        self.p, self.of = p, dict(zip(words, p.tolist(), strict=True))
        self.words, self.upto = list(words), np.cumsum(p).tolist()

    @property
    def entropy(self) -> float:
        """Return -sum p ln p, in nats."""
        return float(-(self.p * np.log(self.p)).sum())

    def draw(self, rng: np.random.RandomState) -> str:
        """Draw a word; a sure one takes no random number."""
        if len(self.words) == 1:
            return self.words[0]
        return self.words[min(bisect(self.upto, rng.random_sample()), len(self.words) - 1)]


class SyntheticSource:
    """The source with a seed: the same tables on every machine, in every version of libraries.

    >>> source = SyntheticSource(0)
    >>> row = source.rows(1, seed=1)[0]
    >>> name = row.split()[0]
    >>> source.distribution([name, ":"]) == {name: 1.0}
    True
    """

    def __init__(self, seed: int) -> None:
        # numpy promises the stream of RandomState for ever, its newer Generator's for a version
        self.seed = seed
        rng = np.random.RandomState([seed, 0])
        self.names, self.verbs, self.adverbs, self.dets, self.nouns = _lexicon(rng)
        transitions = _conditionals(rng, VERBS, VERBS)
        # pi P = pi, with one equation replaced by sum(pi) = 1, which is implied otherwise
        system = transitions.T - np.eye(VERBS)
        system[-1] = 1.0
        self.stationary = np.linalg.solve(system, np.eye(VERBS)[-1])
        self.class_of = {name: i % CLASSES for i, name in enumerate(self.names)}
        zipf = 1.0 / np.arange(1, NAMES + 1)
        self._title = Table(self.names, zipf / zipf.sum())
        self._first_verb = Table(self.verbs, self.stationary)
        self._verb = {v: Table(self.verbs, p) for v, p in zip(self.verbs, transitions, strict=True)}
        adverbs = (1 - NO_ADVERB) * _conditionals(rng, VERBS, ADVERBS)
        # no adverb means that the determiner comes at once
        with_none = np.concatenate([np.full((VERBS, 1), NO_ADVERB), adverbs], axis=1)
        self._adverb, self._noun = {}, {}
        for c, det in enumerate(self.dets):
            nouns = _conditionals(rng, VERBS, NOUNS)
            for i, verb in enumerate(self.verbs):
                self._adverb[verb, c] = Table([det, *self.adverbs], with_none[i])
                self._noun[verb, c] = Table(self.nouns, nouns[i])
        sure = (*self.names, *self.dets, ":", ".", EOS)
        self._sure = {word: Table([word], np.ones(1)) for word in sure}

    def _row_tables(self) -> Generator[Table, str, None]:
        """Yield the distribution of each word of a row in turn; is sent the word that came."""
        name = yield self._title
        c, verb = self.class_of[name], ""
        yield self._sure[":"]
        for _ in range(SENTENCES):
            yield self._sure[name]
            verb = yield self._verb[verb] if verb else self._first_verb
            if (yield self._adverb[verb, c]) in self.adverbs:
                yield self._sure[self.dets[c]]
            yield self._noun[verb, c]
            yield self._sure["."]
        while True:
            yield self._sure[EOS]

    @property
    def lexicon(self) -> list[str]:
        """Every word that the source can utter, without <eos>."""
        return [*self.names, *self.verbs, *self.adverbs, *self.dets, *self.nouns, ":", "."]

    @property
    def entropy_rate(self) -> float:
        """Return nats per word (<eos> included): a row's entropy by its mean number of words."""
        classes = [0.0] * CLASSES
        for name, p in self._title.of.items():
            classes[self.class_of[name]] += p
        verb = adverb = noun = 0.0
        for v, weight in self._first_verb.of.items():
            verb += weight * self._verb[v].entropy
            adverb += weight * self._adverb[v, 0].entropy
            noun += weight * sum(p * self._noun[v, c].entropy for c, p in enumerate(classes))
        first = self._title.entropy + self._first_verb.entropy
        nats = first + (SENTENCES - 1) * verb + SENTENCES * (adverb + noun)
        words = 2 + SENTENCES * (5 + 1 - NO_ADVERB) + 1  # title and colon, sentences, <eos>
        return nats / words

    def rows(self, n: int, seed: int) -> list[str]:
        """Draw ``n`` independent rows; ``seed`` is of this text, the source's own of its tables."""
        rng, rows = np.random.RandomState([self.seed, 1, seed]), []
        for _ in range(n):
            tables, words = self._row_tables(), []
            word = next(tables).draw(rng)
            while word != EOS:
                words.append(word)
                word = tables.send(word).draw(rng)
            rows.append(" ".join(words))
        return rows

    def surprisal(self, rows: Sequence[str]) -> float:
        """Return -ln p of the rows and their <eos>, in nats; infinite where it cannot make them."""
        nats = []
        for row in rows:
            words = [*row.split(), EOS]
            try:
                tables = self._tables_along(words)
            except ValueError:
                return math.inf
            pairs = zip(words, tables[:-1], strict=True)
            nats.append(-sum(float(np.log(table.of[word])) for word, table in pairs))
        return sum(nats)

    def distribution(self, words_so_far: Sequence[str]) -> dict[str, float]:
        """Return the exact distribution of the next word, given the words of the row so far.

        Words that are not in it cannot follow. Raises ValueError if the source cannot utter
        ``words_so_far``, or if they end with <eos>.
        """
        if EOS in words_so_far:
            raise ValueError(f"nothing follows {EOS} in {list(words_so_far)}")
        return dict(self._tables_along(words_so_far)[-1].of)

    def _tables_along(self, words: Sequence[str]) -> list[Table]:
        """The table of each word of a row, and of the next. Raises ValueError for no row of it."""
        row = self._row_tables()
        tables = [next(row)]
        for position, word in enumerate(words):
            if word not in tables[-1].of:
                place = f"at position {position} of {list(words)}"
                raise ValueError(f"the source cannot utter {word!r} {place}")
            tables.append(row.send(word))
        return tables


def _lexicon(rng: np.random.RandomState) -> Iterator[list[str]]:
    """Draw names, verbs, adverbs, determiners and nouns: different words of open syllables."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    stems = [a + b for a in syllables for b in syllables]
    drawn = (stems[i] for i in rng.permutation(len(stems)).tolist())
    yield [stem.capitalize() for stem in islice(drawn, NAMES)]
    yield [stem + "s" for stem in islice(drawn, VERBS)]
    yield [stem + "ly" for stem in islice(drawn, ADVERBS)]
    yield ["e" + stem for stem in islice(drawn, CLASSES)]
    yield list(islice(drawn, NOUNS))


def _conditionals(rng: np.random.RandomState, rows: int, words: int) -> np.ndarray:
    """Draw a distribution over ``words`` for every row."""
    return (1 - UNIFORM) * rng.dirichlet(np.full(words, CONCENTRATION), size=rows) + UNIFORM / words
