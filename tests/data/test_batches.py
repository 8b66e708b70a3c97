from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phasebench.config import ConfigError
from phasebench.data.batches import IGNORED, scoring_batches, steps_of, training_batch, windows

EOS = 7


@given(st.integers(1, 70), st.integers(1, 5), st.integers(1, 20), st.data())
def test_every_token_is_scored_once_with_its_own_context(
    n: int, batch: int, seq: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, seq))
    tokens = torch.arange(100, 100 + n)  # all different: a token tells its position
    stream = [EOS, *tokens.tolist()]
    scored = []
    for inputs, targets in scoring_batches(tokens, eos=EOS, batch=batch, seq=seq, stride=stride):
        assert inputs.shape == targets.shape == (len(inputs), seq)
        assert len(inputs) <= batch
        for row_in, row_target in zip(inputs.tolist(), targets.tolist(), strict=True):
            assert 1 <= sum(target != IGNORED for target in row_target) <= stride
            for place, target in enumerate(row_target):
                if target != IGNORED:
                    position = target - 100
                    scored.append(position)
                    context = row_in[: place + 1]
                    assert context == stream[position + 1 - len(context) : position + 1]
                    assert len(context) >= min(position + 1, seq - stride + 1)
    assert scored == list(range(n))


def test_full_stride_reads_every_token_once() -> None:
    tokens = torch.arange(10, 20)
    inputs = torch.cat([x for x, _ in scoring_batches(tokens, eos=EOS, batch=2, seq=4, stride=4)])
    assert inputs.tolist() == [[EOS, 10, 11, 12], [13, 14, 15, 16], [17, 18, EOS, EOS]]


def test_the_end_of_the_text_does_not_change_earlier_windows() -> None:
    assert windows(100, seq=16, stride=8)[:10] == windows(83, seq=16, stride=8)[:10]


@pytest.mark.parametrize(("n", "seq", "stride"), [(0, 4, 4), (5, 4, 5), (5, 4, 0)])
def test_windows_that_would_not_score_every_token_are_refused(
    n: int, seq: int, stride: int
) -> None:
    with pytest.raises(ValueError, match="stride"):
        windows(n, seq, stride)


@given(st.integers(1, 12), st.integers(0, 80), st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_reads_every_window_once(seq: int, extra: int, batch: int, seed: int) -> None:
    n = seq + 1 + extra
    tokens = torch.arange(n)
    count = max(1, (n - seq) // seq)
    steps = -(-2 * count // batch)  # two epochs, the last batch may go on into a third
    starts = []
    for step in range(steps):
        inputs, targets = training_batch(tokens, step, batch=batch, seq=seq, seed=seed)
        assert inputs.shape == targets.shape == (batch, seq)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        assert torch.equal(inputs + 1, targets)
        starts += inputs[:, 0].tolist()
    for epoch in (starts[:count], starts[count : 2 * count]):
        ordered = sorted(epoch)
        assert ordered == list(range(ordered[0], ordered[0] + seq * count, seq))
        assert n - count * seq <= 2 * seq  # a part of the text shorter than two windows is left out


def test_training_batches_are_a_pure_function_of_seed_and_step() -> None:
    tokens = torch.arange(1000)

    def batches(steps: list[int], seed: int) -> dict[int, list[list[int]]]:
        return {s: training_batch(tokens, s, batch=4, seq=16, seed=seed)[0].tolist() for s in steps}

    order, reverse = list(range(40)), list(reversed(range(40)))
    assert batches(order, 0) == batches(reverse, 0)
    assert batches(order, 0) != batches(order, 1)
    assert batches([0], 0)[0] != batches([1], 0)[1]


def test_epochs_differ_in_offset_and_order_and_reach_the_whole_text() -> None:
    tokens, seq = torch.arange(50), 8
    count = (50 - seq) // seq
    epochs = [training_batch(tokens, e, batch=count, seq=seq, seed=0) for e in range(60)]
    assert len({int(inputs.min()) for inputs, _ in epochs}) > seq // 2
    assert len({tuple((inputs[:, 0] - inputs.min()).tolist()) for inputs, _ in epochs}) > 10
    assert {
        int(t) for inputs, targets in epochs for t in (*inputs.flatten(), *targets.flatten())
    } == set(range(50))


def test_a_text_shorter_than_one_sequence_is_refused_with_its_length() -> None:
    tokens = torch.arange(10)
    training_batch(tokens, 0, batch=2, seq=9, seed=0)
    with pytest.raises(
        ConfigError, match=r"train\.seq=10: .* 10 tokens.*need 11\n  fix: train\.seq=9"
    ):
        training_batch(tokens, 0, batch=2, seq=10, seed=0)


@given(st.floats(0.05, 5.0), st.integers(20, 400), st.integers(1, 7), st.integers(2, 12))
def test_epochs_are_as_many_steps_as_see_every_window_that_often(
    epochs: float, n: int, batch: int, seq: int
) -> None:
    """Each epoch is a permutation of the same number of windows, so counting them tells the epochs
    apart.
    """
    steps, windows_an_epoch = steps_of(epochs, n, batch=batch, seq=seq), max(1, (n - seq) // seq)
    assert steps * batch >= epochs * windows_an_epoch - 1e-6
    assert (steps - 1) * batch < epochs * windows_an_epoch or steps == 1
