"""What the blocks of both stages share: attention first, then a channel mixer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from phasebench.config import ModelConfig
from phasebench.models.attention import CausalAttention
from phasebench.models.layers import ComplexDropout, ComplexNorm, Past, within


def recomputed(active: bool, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Call function; if active, keep its inputs only, and call it again in the backward pass.

    The second call sees the same random numbers and the same autocast, so that gradients have the
    same bits.
    """
    if active and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False)  # type: ignore[return-value]
    return function(*inputs)


class Block(nn.Module, ABC):
    """z = attend(z); z = merge(z, *mix(z)), on states (B, T, 2 D).

    In three parts, so that a model can choose what its backward pass computes again
    (`LanguageModel`).

    Attributes:
        OPAQUE: names of submodules that `compiled` leaves as they are: their kernels are their own.
    """

    OPAQUE: tuple[str, ...] = ()

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gain_out = (2 * config.blocks) ** -0.5  # of what is added to the residual stream
        self.norm1, self.norm2 = ComplexNorm(config.dim), ComplexNorm(config.dim)
        self.attention = CausalAttention(
            config.dim,
            config.heads,
            rope_base=config.rope_base,
            out_gain=self.gain_out,
            dropout=config.dropout.attention,
        )
        self.drop = ComplexDropout(config.dropout.block, locked=config.dropout.locked)

    def forward(
        self,
        z: Float[Tensor, "B T dim2"],
        past: Past | None = None,
        *,
        attention: bool = False,
        tail: bool = False,
    ) -> Float[Tensor, "B T dim2"]:
        """Do both; `attention`, `tail`: whether the backward pass computes these parts again."""
        z = recomputed(attention, self.attend, z, past)
        return recomputed(tail, self.merge, z, *self.mix(z))

    def attend(
        self, z: Float[Tensor, "B T dim2"], past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return z + attention(norm(z)); with a past, of the token that follows it."""
        return z + self.drop(self.mix_tokens(self.norm1(z), past))

    def mix_tokens(
        self, n: Float[Tensor, "B T dim2"], past: Past | None
    ) -> Float[Tensor, "B T dim2"]:
        """Return attention(n)."""
        return self.attention(n, within(past, "attention"))

    def compiled(self) -> Callable[..., Tensor]:
        """Compile `forward` for one shape of states: what is between products is fused."""
        for name in self.OPAQUE:
            part = self.get_submodule(name)
            part.forward = torch.compiler.disable(part.forward)
        return torch.compile(self.forward, dynamic=False)

    @abstractmethod
    def mix(self, z: Float[Tensor, "B T dim2"]) -> tuple[Tensor, ...]:
        """Return what the mixer makes of norm(z)."""

    @abstractmethod
    def merge(self, z: Float[Tensor, "B T dim2"], *mixed: Tensor) -> Float[Tensor, "B T dim2"]:
        """Return z + what mix(z) comes to."""
