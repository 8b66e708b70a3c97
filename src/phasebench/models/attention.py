"""Causal complex attention with rotary phases.

Legend: q, k, v complex queries, keys and values of one head; theta_j = base^(-j / d) the rotary
frequencies.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.models.layers import ComplexLinear, Past


def rotary_phases(
    length: int, dim: int, base: float, device: torch.device
) -> Float[Tensor, "2 T d"]:
    """Return cos and sin of t theta_j for t < length: positions as phases (Su et al. 2021)."""
    theta = base ** (-torch.arange(dim, device=device, dtype=torch.float32) / dim)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * theta
    return torch.stack((angle.cos(), angle.sin()))


class CausalAttention(nn.Module):
    """softmax(Re<q_t, k_s> / sqrt(2 d), s <= t) v_s per head, on states (B, T, 2 D).

    Re<q, k> = Re q . Re k + Im q . Im k is the real dot product of [Re | Im], so the fused kernels
    apply. rope_base None: without positions.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        rope_base: float | None,
        out_gain: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.rope_base = heads, rope_base
        self.dropout = dropout  # of the weights, in training
        self.qkv = ComplexLinear(dim, 3 * dim)
        self.out = ComplexLinear(dim, dim, out_gain)

    def forward(
        self, z: Float[Tensor, "B T dim2"], past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Attend; with a past, of the one token that follows it, which it takes in."""
        B, T, width = z.shape
        d = width // 2 // self.heads
        parts = self.qkv(z).view(B, T, 2, 3, self.heads, d)
        q, k, v = parts.permute(3, 0, 1, 4, 2, 5)  # each: batch, time, head, (Re, Im), channel
        if self.rope_base is not None:
            length = past["k"].shape[2] + T if past else T
            cos, sin = rotary_phases(length, d, self.rope_base, z.device)[:, -T:, None]
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        q, k, v = (u.flatten(-2).transpose(1, 2) for u in (q, k, v))
        del parts  # the products before the rotation, which nothing needs any more
        k, v = remembered(past, k, v)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=past is None)
        mixed = mixed.transpose(1, 2)
        # time stays before heads in memory, as the kernels keep it: in that order the last product
        # needs no copy
        by_head = (
            self.out.matrix().view(width, 2, self.heads, d).transpose(1, 2).reshape(width, width)
        )
        return F.linear(mixed.reshape(B, T, width), by_head)


def remembered(past: Past | None, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values (B, h, T, d) after those of the past, which then has them all."""
    if past:
        k, v = torch.cat((past["k"], k), 2), torch.cat((past["v"], v), 2)
    if past is not None:
        past.update(k=k, v=v)
    return k, v


def _rotate(u: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    x, y = u.float().unbind(-2)
    return torch.stack((x * cos - y * sin, x * sin + y * cos), -2).to(u.dtype)
