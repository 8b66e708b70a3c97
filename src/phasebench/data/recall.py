"""Sequences in which a fact is told once among noise and asked for at the end.

    needle   noise .. noise  MARK  value  noise .. noise  ASK            -> value
    many     noise .. key_1 value_1 .. key_2 value_2 .. noise  ASK key_j -> value_j

Tokens: 0 .. values - 1 are values, then as many keys as there are pairs, then MARK and ASK, then
noise. The places of the facts are uniform, so that a model cannot learn a distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

NOISE = 32  # symbols that carry nothing


@dataclass(frozen=True)
class RecallTask:
    """A task of `pairs` facts (1: a needle) with `values` possible values.

    Examples:
        >>> task = RecallTask(values=16, pairs=1)
        >>> inputs, answers = task.batch(2, 8, seed=0, step=0)
        >>> inputs.shape, answers.shape, task.vocab_size
        (torch.Size([2, 8]), torch.Size([2]), 51)
    """

    values: int
    pairs: int

    @property
    def vocab_size(self) -> int:
        """Number of symbols: values, keys, MARK, ASK and noise."""
        return self.values + self.pairs + 2 + NOISE

    @property
    def shortest(self) -> int:
        """The least length of a sequence: all facts and the question."""
        return 2 * self.pairs + 2

    def batch(
        self, size: int, seq: int, *, seed: int, step: int
    ) -> tuple[Int64[Tensor, "size seq"], Int64[Tensor, " size"]]:
        """Draw sequences and the answers at their last token: a pure function of (seed, step).

        Raises ValueError where the facts do not fit into seq tokens.
        """
        if seq < self.shortest:
            raise ValueError(f"{self.pairs} facts need {self.shortest} tokens, not {seq}")
        draw = torch.Generator().manual_seed(hash((seed, step, seq)) % 2**63)
        mark, ask, noise = (self.values + self.pairs + i for i in range(3))
        inputs = torch.randint(noise, noise + NOISE, (size, seq), generator=draw)
        told = torch.randint(0, self.values, (size, self.pairs), generator=draw)
        room = seq - self.shortest  # noise tokens, which are dealt into the gaps between the facts
        cuts = torch.rand(size, self.pairs, generator=draw).mul(room + 1).long().sort(1).values
        places = cuts + 2 * torch.arange(self.pairs)
        order = torch.rand(size, self.pairs, generator=draw).argsort(1)
        keys = torch.full_like(order, mark) if self.pairs == 1 else self.values + order
        inputs.scatter_(1, places, keys).scatter_(1, places + 1, told)
        asked = torch.randint(0, self.pairs, (size, 1), generator=draw)
        inputs[:, -2] = ask
        inputs[:, -1] = keys.gather(1, asked)[:, 0]
        return inputs, told.gather(1, asked)[:, 0]
