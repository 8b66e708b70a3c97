"""An opponent: a transformer whose tokens have a velocity, which attention and perceptron kick.

Each sublayer is one step of Nesterov's accelerated descent, and the two sublayers of a layer follow
each other as in a Lie-Trotter splitting (Zimin, Polyanskiy & Rigollet 2026, arXiv 2601.23236):

    v <- beta v + gamma F(norm(x + mu v)),   x <- x + v,     F = attention, then F = perceptron

With mu = beta = 0 and gamma = 1 it is the pre-norm transformer. The numbers beta, gamma and mu of
each sublayer are learned; beta and mu stay in (0, 1).

Legend: x position and v velocity of a token, real, of shape (B, T, E); E = 2 dim channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.config.model import ModelConfig
from phasebench.models.attention import remembered, rotary_phases
from phasebench.models.language_model import LanguageModel
from phasebench.models.layers import ComplexEmbedding, LockedDropout, Past, within


class Attention(nn.Module):
    """Causal softmax attention of h heads with rotary positions on real channels (B, T, E)."""

    def __init__(self, width: int, heads: int, *, rope_base: float | None, dropout: float) -> None:
        super().__init__()
        self.heads, self.rope_base, self.dropout = heads, rope_base, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Float[Tensor, "B T E"], past: Past | None = None
    ) -> Float[Tensor, "B T E"]:
        """Attend; with a past, of the one token that follows it, which it takes in."""
        B, T, E = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, E // self.heads).permute(2, 0, 3, 1, 4)
        if self.rope_base is not None:
            length = past["k"].shape[2] + T if past else T
            phases = rotary_phases(length, E // self.heads // 2, self.rope_base, x.device)[:, -T:]
            q, k = _rotate(q, phases), _rotate(k, phases)
        k, v = remembered(past, k, v)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=past is None)
        return self.out(mixed.transpose(1, 2).reshape(B, T, E))


def _rotate(u: Tensor, phases: Tensor) -> Tensor:
    (x, y), (cos, sin) = u.float().chunk(2, -1), phases
    return torch.cat((x * cos - y * sin, x * sin + y * cos), -1).to(u.dtype)


class Kick(nn.Module):
    """One sublayer F as a kick of the velocity: (x, v) -> (x, v)."""

    def __init__(self, width: int, sublayer: nn.Module, drop: nn.Module) -> None:
        super().__init__()
        self.norm, self.sublayer, self.drop = nn.RMSNorm(width), sublayer, drop
        self.beta, self.mu = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))
        self.gamma = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, x: Float[Tensor, "B T E"], v: Float[Tensor, "B T E"], past: Past | None = None
    ) -> tuple[Float[Tensor, "B T E"], Float[Tensor, "B T E"]]:
        ahead = x + torch.sigmoid(self.mu) * v
        own = (past,) if isinstance(self.sublayer, Attention) else ()
        force = self.drop(self.sublayer(self.norm(ahead), *own))
        v = torch.sigmoid(self.beta) * v + self.gamma * force
        return x + v, v


class MomentumLanguageModel(LanguageModel):
    """The transformer with momentum, with the tied head and the dropout of the other models."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        drop, width = config.dropout, 2 * config.dim
        self.embedding = ComplexEmbedding(vocab_size, config.dim, drop.embedding)
        self.scale = config.embedding_scale
        self.recompute = frozenset(config.recompute) & {"head"}
        made = LockedDropout if drop.locked else nn.Dropout
        self.drop_in, self.drop_out = made(drop.input), made(drop.output)
        self.kicks = nn.ModuleList()
        for _ in range(config.blocks):
            attention = Attention(
                width, config.heads, rope_base=config.rope_base, dropout=drop.attention
            )
            perceptron = nn.Sequential(
                nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, width)
            )
            self.kicks.append(Kick(width, attention, made(drop.block)))
            self.kicks.append(Kick(width, perceptron, made(drop.block)))
        self.norm = nn.RMSNorm(width)
        self.run = [kick.forward for kick in self.kicks]

    def compile_training(self) -> None:
        """Compile every sublayer for training."""
        self.run = [torch.compile(kick.forward, dynamic=False) for kick in self.kicks]

    def through(
        self, z: Float[Tensor, "B T dim2"], *, sparing: bool, past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return the normalised states that the head reads, of embedded tokens."""
        x = self.drop_in(self.scale * z)
        v = torch.zeros_like(x)
        for i, kick in enumerate(self.run if self.training else self.kicks):
            x, v = kick(x, v, within(past, str(i)))
        return self.drop_out(self.norm(x))
