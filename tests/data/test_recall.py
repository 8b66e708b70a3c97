"""What a recall task tells is what it asks for, exactly once, anywhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.data.recall import RecallTask


@settings(max_examples=40, deadline=None)
@given(pairs=st.integers(1, 8), seq=st.integers(18, 70), step=st.integers(0, 10**6))
def test_the_answer_follows_its_key_once(pairs: int, seq: int, step: int) -> None:
    task = RecallTask(values=16, pairs=pairs)
    inputs, answers = task.batch(5, seq, seed=3, step=step)
    for row, answer in zip(inputs.tolist(), answers.tolist(), strict=True):
        facts, key = row[:-2], row[-1]
        assert facts.count(key) == 1
        assert facts[facts.index(key) + 1] == answer
        assert sum(symbol < task.values for symbol in row) == pairs
        assert max(row) < task.vocab_size


def test_places_are_spread_over_the_whole_sequence() -> None:
    inputs, _ = RecallTask(values=16, pairs=1).batch(4096, 20, seed=0, step=0)
    places = (inputs < 16).float().argmax(1)
    counts = torch.bincount(places, minlength=20)[1:18]
    assert counts.min() > 4096 / 17 * 0.75
    assert counts.max() < 4096 / 17 * 1.25


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    task = RecallTask(values=16, pairs=4)
    first, again = (task.batch(3, 32, seed=1, step=7)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, task.batch(3, 32, seed=1, step=8)[0])
    assert not torch.equal(first, task.batch(3, 32, seed=2, step=7)[0])


def test_facts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="8 facts need 18 tokens, not 17"):
        RecallTask(values=16, pairs=8).batch(1, 17, seed=0, step=0)
