"""Stage 1: the complex-valued baseline, whose channels are mixed by a complex two-layer network."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from phasebench.config import ModelConfig
from phasebench.nn import CausalAttention, ComplexDropout, ComplexLinear, ComplexNorm, ModReLU


class Stage1Block(nn.Module):
    """z += attention(norm(z)); z += C2 modReLU(C1 norm(z)), on states (B, T, 2 D).

    Multiplying z by a common phase multiplies the output by it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        gain = (2 * config.blocks) ** -0.5
        self.norm1, self.norm2 = ComplexNorm(config.dim), ComplexNorm(config.dim)
        self.attention = CausalAttention(
            config.dim, config.heads, rope_base=config.rope_base, out_gain=gain, dropout=config.dropout.attention
        )
        self.mixer = nn.Sequential(
            ComplexLinear(config.dim, config.hidden),
            ModReLU(config.hidden),
            ComplexLinear(config.hidden, config.dim, gain),
        )
        self.drop = ComplexDropout(config.dropout.block, locked=config.dropout.locked)

    def forward(self, z: Float[Tensor, "B T dim2"]) -> Float[Tensor, "B T dim2"]:
        z = z + self.drop(self.attention(self.norm1(z)))
        return z + self.drop(self.mixer(self.norm2(z)))
