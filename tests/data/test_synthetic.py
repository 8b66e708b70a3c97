from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from phasebench.data import synthetic
from phasebench.data.synthetic import EOS, SENTENCES, SyntheticSource


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(0)


@pytest.fixture(scope="module")
def rows(source: SyntheticSource) -> list[str]:
    return source.rows(1500, seed=9)


def test_mean_surprisal_agrees_with_the_exact_entropy_rate(
    source: SyntheticSource, rows: list[str]
) -> None:
    nats = np.array([source.surprisal([row]) for row in rows])
    words = np.array([len(row.split()) + 1 for row in rows])
    # of a ratio of means: the residuals' standard error (delta method)
    error = (nats - source.entropy_rate * words).std(ddof=1) / math.sqrt(len(rows)) / words.mean()
    assert abs(nats.sum() / words.sum() - source.entropy_rate) < 4 * error
    assert error < 0.01 * source.entropy_rate  # or the test could not fail


def test_entropy_rate_by_enumeration_of_a_small_source(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"NAMES": 3, "CLASSES": 2, "VERBS": 2, "ADVERBS": 1, "NOUNS": 2, "SENTENCES": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(synthetic, name, value)
    source = SyntheticSource(4)
    nats = words = total = 0.0
    for row, p in _every_row(source, [], 1.0):
        total += p
        nats -= p * math.log(p)
        words += p * len(row)
    assert total == pytest.approx(1.0, abs=1e-12)
    assert nats / words == pytest.approx(source.entropy_rate, rel=1e-12)


def _every_row(source: SyntheticSource, words: list[str], p: float):
    for word, q in source.distribution(words).items():
        if word == EOS:
            yield [*words, word], p * q
        else:
            yield from _every_row(source, [*words, word], p * q)


def test_distributions_sum_to_one_and_multiply_to_the_surprisal(
    source: SyntheticSource, rows: list[str]
) -> None:
    for row in rows[:20]:
        words, nats = [*row.split(), EOS], 0.0
        for i, word in enumerate(words):
            distribution = source.distribution(words[:i])
            assert sum(distribution.values()) == pytest.approx(1.0, abs=1e-12)
            nats -= math.log(distribution[word])
        assert source.surprisal([row]) == pytest.approx(nats, rel=1e-12)


def test_perplexity_of_the_sources_own_distribution_is_its_floor(
    source: SyntheticSource, rows: list[str]
) -> None:
    nats = words = 0.0
    for row in rows[:300]:
        so_far: list[str] = []
        for word in [*row.split(), EOS]:
            nats -= math.log(source.distribution(so_far)[word])
            so_far.append(word)
        words += len(so_far)
    assert math.exp(nats / words) == pytest.approx(math.exp(source.entropy_rate), rel=0.02)


def test_rows_copy_their_name_and_agree_with_it(source: SyntheticSource, rows: list[str]) -> None:
    dets = set()
    for row in rows[:100]:
        title, body = row.split(" : ")
        sentences = [sentence.split() for sentence in body.removesuffix(" .").split(" . ")]
        assert len(sentences) == SENTENCES
        assert {sentence[0] for sentence in sentences} == {title}
        found = {sentence[-2] for sentence in sentences}
        assert len(found) == 1  # one class, one determiner
        dets |= found
    assert dets == set(source.dets)


def test_the_title_decides_a_word_a_whole_row_later(
    source: SyntheticSource, rows: list[str]
) -> None:
    words = rows[0].split()
    other = next(name for name in source.names if name != words[0])
    assert source.distribution(words[:-4])  # within the last sentence
    for start in (i for i, word in enumerate(words) if word == words[0] and i > 0):
        assert source.distribution(words[:start]) == {words[0]: 1.0}
    assert source.surprisal([" ".join([other, *words[1:]])]) == math.inf


def test_verbs_depend_on_the_verb_of_the_sentence_before(
    source: SyntheticSource, rows: list[str]
) -> None:
    index = {verb: i for i, verb in enumerate(source.verbs)}
    counts = np.zeros((len(index), len(index)))
    for row in rows:
        for a, b in pairwise(word for word in row.split() if word in index):
            counts[index[a], index[b]] += 1
    joint = counts / counts.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    assert (
        joint[seen] * np.log(joint[seen] / independent[seen])
    ).sum() > 0.3  # mutual information, nats
    assert (
        np.abs(joint.sum(1) - source.stationary).max() < 0.02
    )  # stationary from the first sentence on


def test_seeds(source: SyntheticSource) -> None:
    again, other = SyntheticSource(0), SyntheticSource(1)
    assert again.rows(5, seed=3) == source.rows(5, seed=3)
    assert again.entropy_rate == source.entropy_rate
    assert source.rows(5, seed=3) != source.rows(5, seed=4)
    assert set(other.lexicon) != set(source.lexicon)
    assert other.entropy_rate != source.entropy_rate


def test_the_text_is_the_same_on_every_machine(source: SyntheticSource) -> None:
    assert source.rows(1, seed=0)[0].startswith(
        "Tovi : Tovi milas kosely eziku sipe . Tovi logus eziku lugi ."
    )
    assert source.entropy_rate == pytest.approx(0.8593856549, abs=1e-9)


def test_words_are_distinct_and_all_are_uttered(source: SyntheticSource, rows: list[str]) -> None:
    assert len(set(source.lexicon)) == len(source.lexicon)
    assert {word for row in rows for word in row.split()} <= set(source.lexicon)


def test_what_the_source_cannot_utter(source: SyntheticSource) -> None:
    name = source.names[0]
    assert source.surprisal(["of the people"]) == math.inf
    assert source.surprisal([f"{name} :"]) == math.inf  # ends too early
    with pytest.raises(ValueError, match="cannot utter 'people' at position 2"):
        source.distribution([name, ":", "people"])
    with pytest.raises(ValueError, match=EOS):
        source.distribution([*source.rows(1, seed=0)[0].split(), EOS])
