"""A causal pyramid of two-site gates over the tokens: the MERA mixer of Stage 3.

A binary tree tensor network (Vidal 2007 calls the gates of each scale isometries; without gates
that straddle the pairs it is a tree). All scales share all weights, so lengths never seen in
training need none. With heads of d complex channels, at scale l:

    leaves   c_0 = V n,   log-score m_0 = key . n + bias
    pair     m = logaddexp(m_a, m_b);   w_a, w_b = exp(m_a - m), exp(m_b - m),   w_a + w_b = 1
    pool     c = w_a a + w_b b                                a: left (older) node, b: right
    unitary  c = U (sqrt(w_a) a + sqrt(w_b) b)                U = (1 - A)(1 + A)^-1, A^+ = -A
    node     (l, k) holds tokens k 2^l .. (k + 1) 2^l - 1
    read     token t reads, for every l with 2^l <= t + 1, the last node that is complete,
             k = floor((t + 1) / 2^l) - 1, by attention over the scales:
             y_t = O sum_l softmax_l(Re<Q n_t, K c_(l,k)> / sqrt(2 d) + lev_1 l + lev_0 [l = 0]) c

With `lagged` gates, unitary rotations first act on the pairs (2 k + 1, 2 k + 2) that straddle two
nodes. Node (l, k) is then complete at token (k + 2) 2^l - 2 only, and a token reads the last three.

Legend: n states (B, T, 2 D) = [Re | Im]; c nodes (B, N_l, h, 2, d); m scores (B, N_l, h).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from phasebench.models.layers import ComplexLinear

Gate = Literal["pool", "unitary"]
READS = 3  # nodes of a scale that a token reads where gates straddle: fewer would leave holes


class Counter:
    """The nodes of a prefix: of each scale the last complete one.

    A binary counter of O(log T) nodes; a token merges O(1) of them on average.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.last: list[tuple[Tensor, Tensor]] = []


class Pyramid(nn.Module):
    """n -> y, reading of each scale the last complete node before or at a token.

    Args:
        dim: complex channels D of the states.
        channels: complex channels Dm of the nodes, over all heads.
        heads: h, a divisor of channels.
        out_gain: gain of the last map at initialisation.
        gate: how two nodes become one.
        lagged: gates between neighbouring pairs first, an ablation.

    Example:
        >>> Pyramid(8, 4, 2, out_gain=1.0)(torch.ones(1, 5, 16)).shape
        torch.Size([1, 5, 16])
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        heads: int,
        *,
        out_gain: float,
        gate: Gate = "pool",
        lagged: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.d, self.gate, self.lagged = heads, channels // heads, gate, lagged
        self.V, self.Q = ComplexLinear(dim, channels), ComplexLinear(dim, channels)
        self.K = ComplexLinear(channels, channels)
        self.O = ComplexLinear(channels, dim, out_gain)
        self.key = nn.Linear(2 * dim, heads)
        self.lev = nn.Parameter(torch.zeros(2, heads))
        if gate == "unitary":
            self.M = nn.Parameter(torch.randn(2, heads, self.d, self.d) * 0.1)

    def forward(self, n: Float[Tensor, "B T dim2"]) -> Float[Tensor, "B T dim2"]:
        if torch.is_grad_enabled() and n.requires_grad:  # the nodes a token reads are not kept
            return checkpoint(self._forward, n, use_reentrant=False)  # type: ignore[return-value]
        return self._forward(n)

    def _forward(self, n: Tensor) -> Tensor:
        T = n.shape[1]
        q, (c, m) = self._heads(self.Q(n)), self._leaves(n)
        U = self._channel()
        t = torch.arange(T, device=n.device)
        total, top, level = None, None, 0
        while c.shape[1]:
            keys = self._keys(c)
            last = (t + 2) // 2**level - 2 if self.lagged else (t + 1) // 2**level - 1
            for back in range(READS if self.lagged else 1):
                at = last - back
                score = (q * keys[:, at.clamp(min=0)]).sum((-1, -2)) + self._bias(level)
                score = score.masked_fill((at < 0)[:, None], -torch.inf)
                total, top = _add(total, top, score, c[:, at.clamp(min=0)])
            c, m = self._rise(c, m, U)
            level += 1
        values, weight = total  # type: ignore[misc]
        return self.O(self._flat(values / weight[..., None, None]).to(n.dtype))

    def _heads(self, z: Tensor) -> Tensor:
        """(B, T, 2 Dm) as (B, T, h, 2, d), in float32 or wider."""
        wide = z if z.dtype == torch.float64 else z.float()
        return wide.unflatten(-1, (2, self.heads, self.d)).transpose(-3, -2)

    def _flat(self, x: Tensor) -> Tensor:
        return x.transpose(-3, -2).flatten(-3)

    def _leaves(self, n: Tensor) -> tuple[Tensor, Tensor]:
        c, m = self._heads(self.V(n)), self.key(n)
        return c, m.to(c.dtype)

    def _keys(self, c: Tensor) -> Tensor:
        return self._heads(self.K(self._flat(c))) / (2 * self.d) ** 0.5

    def _bias(self, level: int) -> Tensor:
        return self.lev[1] * level + (self.lev[0] if level == 0 else 0.0)

    def _channel(self) -> Tensor | None:
        """U of each head as a real matrix (h, 2 d, 2 d), or None."""
        if self.gate == "pool":
            return None
        x, y = (self.M if self.M.dtype == torch.float64 else self.M.float()).unbind()
        x, y = (x - x.mT) / 2, (y + y.mT) / 2  # anti-Hermitian
        A = torch.cat((torch.cat((x, -y), -1), torch.cat((y, x), -1)), -2)
        one = torch.eye(2 * self.d, dtype=A.dtype, device=A.device)
        return torch.linalg.solve(one + A, one - A)

    def _rise(self, c: Tensor, m: Tensor, U: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the nodes of the next scale from those of this one."""
        if self.lagged:
            c = _straddle(c, m)
        count = (c.shape[1] - 1) // 2 if self.lagged else c.shape[1] // 2
        a, b = c[:, : 2 * count : 2], c[:, 1 : 2 * count : 2]
        return self._merge(a, b, m[:, : 2 * count : 2], m[:, 1 : 2 * count : 2], U)

    def _merge(
        self, a: Tensor, b: Tensor, m_a: Tensor, m_b: Tensor, U: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        m = torch.logaddexp(m_a, m_b)
        w_a, w_b = (torch.exp(x - m)[..., None, None] for x in (m_a, m_b))
        if U is None:
            return w_a * a + w_b * b, m
        rotated = w_a.sqrt() * a + w_b.sqrt() * b
        return torch.einsum("hij,bnhj->bnhi", U, rotated.flatten(-2)).view_as(rotated), m

    def step(self, n: Float[Tensor, "B 1 dim2"], counter: Counter) -> Float[Tensor, "B 1 dim2"]:
        """Compute y of the next token; the counter takes the token in."""
        q, (c, m) = self._heads(self.Q(n)), self._leaves(n)
        U, level, total, top = self._channel(), 0, None, None
        counter.tokens += 1
        while counter.tokens % 2**level == 0:  # the node (c, m) of this level is complete
            waits = (counter.tokens >> level) % 2 == 1
            before = counter.last[level] if level < len(counter.last) else None
            counter.last[level : level + 1] = [(c, m)]
            if waits or before is None:
                break
            c, m = self._merge(before[0], c, before[1], m, U)
            level += 1
        for level, (node, _) in enumerate(counter.last):
            score = (q * self._keys(node)).sum((-1, -2)) + self._bias(level)
            total, top = _add(total, top, score, node)
        values, weight = total  # type: ignore[misc]
        return self.O(self._flat(values / weight[..., None, None]).to(n.dtype))


def _add(
    total: tuple[Tensor, Tensor] | None, top: Tensor | None, score: Tensor, value: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Add a term to a running softmax: (sum of exp(score - top) value, sum of exp(score - top))."""
    if total is None or top is None:
        return (value, torch.ones_like(score)), score
    now = torch.maximum(top, score)
    old, new = torch.exp(top - now), torch.exp(score - now)
    values, weight = total
    return (values * old[..., None, None] + value * new[..., None, None], weight * old + new), now


def _straddle(c: Tensor, m: Tensor) -> Tensor:
    """Rotate the pairs (2 k + 1, 2 k + 2) by angles that their scores give."""
    pairs = (c.shape[1] - 1) // 2
    a, b = c[:, 1 : 2 * pairs : 2], c[:, 2 : 2 * pairs + 1 : 2]
    m_a, m_b = m[:, 1 : 2 * pairs : 2], m[:, 2 : 2 * pairs + 1 : 2]
    both = torch.logaddexp(m_a, m_b)
    cos, sin = (torch.exp((x - both) / 2)[..., None, None] for x in (m_a, m_b))
    turned = torch.stack((cos * a + sin * b, cos * b - sin * a), 2).flatten(1, 2)
    return torch.cat((c[:, :1], turned, c[:, 2 * pairs + 1 :]), 1)
