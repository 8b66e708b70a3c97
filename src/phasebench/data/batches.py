"""A stream of tokens cut into batches: random windows for training, every token exactly once for
scoring.
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
    """Inputs and next-token targets of optimizer step ``step``: a pure function of ``(seed,
    step)``.

    An epoch is a fresh permutation of the non-overlapping windows of ``seq`` tokens, which begin at
    a fresh random offset; their number is the same in every epoch, so that step and epoch need no
    state. Batches may span two epochs. Raises `ConfigError` if the text is shorter than one
    sequence and its targets.

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
    """The fewest steps of `training_batch` that see so many epochs. Raises what it raises.

    >>> steps_of(2, 101, batch=2, seq=8)
    11
    """
    return max(1, math.ceil(epochs * _epoch_shape(n_tokens, seq)[0] / batch))


def _epoch_shape(n_tokens: int, seq: int) -> tuple[int, int]:
    """Windows an epoch, and the largest offset that leaves room for them (at least seq - 1 if two
    windows fit).
    """
    if n_tokens < seq + 1:
        raise ConfigError(
            "train.seq",
            seq,
            f"the training split has {n_tokens} tokens, a sequence and its targets need {seq + 1}",
            f"train.seq={max(n_tokens - 1, 2)} at most, or a longer text",
        )
    count = max(1, (n_tokens - seq) // seq)
    return count, n_tokens - 1 - count * seq


@lru_cache(maxsize=8)
def _epoch_starts(seed: int, epoch: int, count: int, slack: int, seq: int) -> Tensor:
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    offset = torch.randint(slack + 1, (), generator=generator)
    return offset + seq * torch.randperm(count, generator=generator)


class Window(NamedTuple):
    """Reads positions ``start .. end - 1`` of the prefixed stream, scores tokens ``scored .. end -
    1`` of the text.
    """

    start: int
    scored: int
    end: int


def windows(n_tokens: int, seq: int, stride: int) -> list[Window]:
    """The windows that score every one of ``n_tokens`` tokens once, ``stride`` tokens each.

    The text is preceded by one <eos>, so position j of that stream predicts token j of the text. A
    window reads at most ``seq`` positions: the one before the last scored token and those before
    it.

    >>> windows(5, seq=3, stride=2)[1:]
    [Window(start=1, scored=2, end=4), Window(start=3, scored=4, end=5)]
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
    """Inputs and targets that score every token once: up to ``batch`` windows at a time (see
    `windows`).

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
