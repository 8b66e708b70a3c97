"""A stream of tokens cut into batches.

Random windows for training, every token exactly once for scoring.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

from phasebench.config import ConfigError

IGNORED = -100  # a target that is not scored


def training_batch(
    tokens: Int64[Tensor, " N"], step: int, *, batch: int, seq: int, seed: int
) -> tuple[Int64[Tensor, "batch seq"], Int64[Tensor, "batch seq"]]:
    """Cut the inputs and next-token targets of one optimizer step, from 0.

    They depend on ``(seed, step)`` alone. An epoch is a fresh permutation of the windows of ``seq``
    tokens, which do not overlap and begin at a fresh random offset. Every epoch has as many, so
    that no state is kept. A batch may span two epochs. Raises `ConfigError` if the text is shorter
    than one sequence and its targets.

    >>> inputs, targets = training_batch(torch.arange(100), 3, batch=2, seq=8, seed=0)
    >>> inputs.shape, torch.equal(inputs + 1, targets)
    (torch.Size([2, 8]), True)
    """
    count, slack = _epoch_shape(len(tokens), seq)
    places = [divmod(step * batch + i, count) for i in range(batch)]
    starts = torch.tensor(
        [_epoch_starts(seed, epoch, count, slack, seq)[place] for epoch, place in places]
    )
    rows = tokens[(starts[:, None] + torch.arange(seq + 1)).to(tokens.device)]
    return rows[:, :-1], rows[:, 1:]


def steps_of(epochs: float, n_tokens: int, *, batch: int, seq: int) -> int:
    """Count the fewest steps of `training_batch` that see so many epochs. Raises what it raises.

    >>> steps_of(2, 101, batch=2, seq=8)
    11
    """
    return max(1, math.ceil(epochs * _epoch_shape(n_tokens, seq)[0] / batch))


def _epoch_shape(n_tokens: int, seq: int) -> tuple[int, int]:
    """Count the windows of an epoch; return them and the largest offset that leaves them room."""
    if n_tokens < seq + 1:
        needed = f"a sequence and its targets need {seq + 1}"
        problem = f"the training split has {n_tokens} tokens, {needed}"
        fix = f"train.seq={max(n_tokens - 1, 2)} at most, or a longer text"
        raise ConfigError("train.seq", seq, problem, fix)
    count = max(1, (n_tokens - seq) // seq)
    return count, n_tokens - 1 - count * seq


@lru_cache(maxsize=8)
def _epoch_starts(seed: int, epoch: int, count: int, slack: int, seq: int) -> Tensor:
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    offset = torch.randint(slack + 1, (), generator=generator)
    return offset + seq * torch.randperm(count, generator=generator)


class Window(NamedTuple):
    """A window that reads positions of the prefixed stream and scores tokens of the text."""

    start: int  # reads start .. end - 1
    scored: int  # scores scored .. end - 1
    end: int


def windows(n_tokens: int, seq: int, stride: int) -> list[Window]:
    """List the windows that score each of ``n_tokens`` tokens once, ``stride`` tokens each.

    The text is preceded by one <eos>, so position j of that stream predicts token j of the text.
    A window reads at most ``seq`` positions, up to the one that predicts its last token.

    >>> [tuple(window) for window in windows(5, seq=3, stride=2)]
    [(0, 0, 2), (1, 2, 4), (3, 4, 5)]
    """
    if n_tokens < 1 or not 1 <= stride <= seq:
        raise ValueError(
            f"needs n_tokens >= 1 and 1 <= stride <= seq, got {n_tokens=}, {stride=}, {seq=}"
        )
    # the context depends on the token's position only, not on where the text ends
    return [
        Window(max(0, first + stride - seq), first, min(first + stride, n_tokens))
        for first in range(0, n_tokens, stride)
    ]


def scoring_batches(
    tokens: Int64[Tensor, " N"], *, eos: int, batch: int, seq: int, stride: int
) -> Iterator[tuple[Int64[Tensor, "B seq"], Int64[Tensor, "B seq"]]]:
    """Yield inputs and targets that score every token once, ``batch`` of the `windows` at a time.

    Positions of context and of padding have the target `IGNORED`. ``stride=seq`` reads every token
    once; a smaller stride gives every token at least ``seq - stride`` tokens of context.

    >>> tokens = torch.tensor([5, 6, 7])
    >>> for inputs, targets in scoring_batches(tokens, eos=0, batch=2, seq=2, stride=1):
    ...     print(inputs.tolist(), targets.tolist())
    [[0, 0], [0, 5]] [[5, -100], [-100, 6]]
    [[5, 6]] [[-100, 7]]
    """
    if batch < 1:
        raise ValueError(f"needs batch >= 1, got {batch=}")
    stream = torch.cat([tokens.new_tensor([eos]), tokens])
    every = windows(len(tokens), seq, stride)
    for first in range(0, len(every), batch):
        part = every[first : first + batch]
        inputs = tokens.new_full((len(part), seq), eos)
        targets = tokens.new_full((len(part), seq), IGNORED)
        for row, (start, scored, end) in enumerate(part):
            inputs[row, : end - start] = stream[start:end]
            targets[row, scored - start : end - start] = tokens[scored:end]
        yield inputs, targets
