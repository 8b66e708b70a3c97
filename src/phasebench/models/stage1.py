"""Stage 1: the complex-valued baseline, whose channels are mixed by a complex two-layer network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phasebench.config import ModelConfig
from phasebench.models.block import Block
from phasebench.models.layers import ComplexLinear, ModReLU


class Stage1Block(Block):
    """z += attention(norm(z)); z += C2 modReLU(C1 norm(z)), on states (B, T, 2 D).

    Multiplying z by a common phase multiplies the output by it. That ends with `shear`, an
    ablation: (c1 Im norm(z), 0) is added too, without dropout, with c1 (D) learned from that start.
    It is the free motion of Stage 2's block without the rest of the flow (docs/recipes.md).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.mixer = nn.Sequential(
            ComplexLinear(config.dim, config.hidden),
            ModReLU(config.hidden),
            ComplexLinear(config.hidden, config.dim, self.gain_out),
        )
        self.c1 = nn.Parameter(torch.full((config.dim,), config.shear)) if config.shear else None

    def mix(self, z: Float[Tensor, "B T dim2"]) -> tuple[Tensor, ...]:
        """C1 norm(z)."""
        return (self.mixer[0](self.norm2(z)),)

    def merge(self, z: Float[Tensor, "B T dim2"], *mixed: Tensor) -> Float[Tensor, "B T dim2"]:
        """z + C2 modReLU(C1 norm(z)), and the shear."""
        moved = z + self.drop(self.mixer[1:](*mixed))
        if self.c1 is None:
            return moved
        p = self.norm2(z).chunk(2, -1)[1]
        return moved + torch.cat((self.c1 * p, torch.zeros_like(p)), -1)
