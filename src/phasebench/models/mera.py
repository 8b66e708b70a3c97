"""Stage 3's pyramid: a causal binary tree of two-site gates over the tokens (docs/stage3.md).

A binary tree tensor network, in which each scale's gates are isometries (Vidal 2007, "Entanglement
Renormalization"). All scales share all weights, so that lengths never seen in training need none.
With heads of d complex channels, at scale l:

    leaves   c_0 = V n,   log-score m_0 = key . n
    pair     m = logaddexp(m_a, m_b);   w_a, w_b = exp(m_a - m), exp(m_b - m),   w_a + w_b = 1
    pool     c = w_a a + w_b b                                a: left (older) node, b: right
    unitary  c = U (sqrt(w_a) a + sqrt(w_b) b)                U = (1 - A)(1 + A)^-1, A^+ = -A
    node     (l, k) holds tokens k 2^l .. (k + 1) 2^l - 1
    read     token t reads, for every l with 2^l <= t + 1, the last node that is complete,
             k = floor((t + 1) / 2^l) - 1, by attention over the scales:
             y_t = O sum_l softmax_l(Re<Q n_t, K c_(l,k)> / sqrt(2 d) + lev_1 l + lev_0 [l = 0]) c

With `lagged` gates, unitary rotations first act on the pairs (2 k + 1, 2 k + 2) that straddle two
nodes. Node (l, k) is then complete at token (k + 2) 2^l - 2 only, and a token reads the last three.

Legend: n states (B, T, 2 D) = [Re | Im]; c nodes (B, N_l, h, 2, d); m scores (B, N_l, h); q the
queries Q n_t, shaped as nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.models.layers import ComplexLinear, Past

READS = 3  # nodes of a scale that a token reads where gates straddle: fewer would leave holes


class Pyramid(nn.Module):
    """n -> y, reading of each scale the last complete node before or at a token.

    Args:
        dim: complex channels D of the states.
        channels: complex channels of the nodes, over all heads.
        heads: h, a divisor of channels.
        out_gain: gain of the last map at initialisation.
        unitary: how two nodes become one.
        lagged: gates between neighbouring pairs first, an ablation.

    Examples:
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
        unitary: bool = False,
        lagged: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.d, self.lagged = heads, channels // heads, lagged
        self.V, self.Q = ComplexLinear(dim, channels), ComplexLinear(dim, channels)
        self.K = ComplexLinear(channels, channels)
        self.O = ComplexLinear(channels, dim, out_gain)
        self.key = nn.Linear(2 * dim, heads, bias=False)
        self.lev = nn.Parameter(torch.zeros(2 * heads))
        shape = 2, heads, self.d, self.d
        self.M = nn.Parameter(torch.randn(shape) * 0.1) if unitary else None

    def forward(
        self, n: Float[Tensor, "B T dim2"], past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return y; with a past, of the one token that follows it, which it takes in."""
        if past is not None and self.lagged:  # no counter of nodes that wait for their neighbours
            past["n"] = torch.cat((*past.values(), n), 1)
            return self.forward(past["n"])[:, -1:]
        T, q, c = n.shape[1], self._heads(self.Q(n)), self._heads(self.V(n))
        m = self.key(n).to(c.dtype)
        nodes = self._tree(c, m) if past is None else self._counted(c, m, past)
        q = F.pad(q, (0, 0) * 3 + (0, T - 1))  # once, so that all scales read views of it
        scores, reads = [], []
        for level, (first, size, c) in enumerate(nodes):
            keys = self._heads(self.K(self._flat(c))) / (2 * self.d) ** 0.5
            bias = self.lev.view(2, -1)[1] * level + (self.lev.view(2, -1)[0] if not level else 0)
            for start in range(first, first + (READS if self.lagged else 1) * size, size):
                count = -(-(T - start) // size)
                if count > 0:
                    score = _grouped(q, keys[:, :count], start, size)[:, : T - start].sum((-1, -2))
                    scores.append(F.pad(score + bias, (0, 0, start, 0), value=-torch.inf))
                    reads.append((start, size, c[:, :count]))
        y = torch.zeros_like(q[:, :T])
        for weight, (start, size, c) in zip(torch.stack(scores).softmax(0), reads, strict=True):
            weight = F.pad(weight, (0, 0, 0, T - 1))[..., None, None]
            value = _grouped(weight, c, start, size)[:, : T - start]
            y = y + F.pad(value, (0, 0) * 3 + (start, 0))
        return self.O(self._flat(y).to(n.dtype))

    def _heads(self, z: Tensor) -> Tensor:
        """(B, T, 2 channels) as (B, T, h, 2, d), in float32 or wider."""
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        return wide.unflatten(-1, (2, self.heads, self.d)).transpose(-3, -2)

    def _flat(self, c: Tensor) -> Tensor:
        return c.transpose(-3, -2).flatten(-3)

    def channel(self) -> Float[Tensor, "h d2 d2"] | None:
        """Return U of each head as a real matrix; None for pooling."""
        if self.M is None:
            return None
        x, y = self.M.to(torch.promote_types(self.M.dtype, torch.float32)).unbind()
        x, y = (x - x.mT) / 2, (y + y.mT) / 2  # anti-Hermitian
        A = torch.cat((torch.cat((x, -y), -1), torch.cat((y, x), -1)), -2)
        one = torch.eye(2 * self.d, dtype=A.dtype, device=A.device)
        # 1 + A is never singular; a check of that would wait for the device
        return torch.linalg.solve_ex(one + A, one - A).result

    def _tree(self, c: Tensor, m: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Yield each scale's nodes, the first token that reads one, and how many tokens read each.

        The first node is read by tokens first .. first + size - 1, the next by the size after them.
        """
        U, size = self.channel(), 1
        while c.shape[1]:
            yield (2 * size - 2 if self.lagged else size - 1), size, c
            if self.lagged:
                c = _straddle(c, m)
            even = 2 * ((c.shape[1] - 1) // 2 if self.lagged else c.shape[1] // 2)
            a, b = slice(0, even, 2), slice(1, even, 2)
            (c, m), size = _merge(c[:, a], c[:, b], m[:, a], m[:, b], U), 2 * size

    def _counted(self, c: Tensor, m: Tensor, past: Past) -> list[tuple[int, int, Tensor]]:
        """Take one token in, and return the last complete node of each scale.

        A binary counter: O(log T) nodes, of which a token merges O(1) on average.
        """
        U, level, last = self.channel(), 0, past.setdefault("last", [])
        past["tokens"] = tokens = past.get("tokens", 0) + 1
        while True:
            before = last[level] if level < len(last) else None
            last[level : level + 1] = [(c, m)]
            if before is None or (tokens >> level) % 2:  # it waits for its right neighbour
                return [(0, 1, node) for node, _ in last]
            c, m = _merge(before[0], c, before[1], m, U)
            level += 1


def _merge(
    a: Tensor, b: Tensor, m_a: Tensor, m_b: Tensor, U: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the nodes of pairs, and their scores."""
    m = torch.logaddexp(m_a, m_b)
    w_a, w_b = (torch.exp(x - m)[..., None, None] for x in (m_a, m_b))
    if U is None:
        return w_a * a + w_b * b, m
    rotated = w_a.sqrt() * a + w_b.sqrt() * b
    return torch.einsum("hij,bnhj->bnhi", U, rotated.flatten(-2)).view_as(rotated), m


def _grouped(x: Tensor, nodes: Tensor, start: int, size: int) -> Tensor:
    """Multiply what tokens hold, from start on, by the node that they read: `size` tokens each.

    By broadcasting, so that no node is copied for every token that reads it.
    """
    groups = x[:, start : start + nodes.shape[1] * size].unflatten(1, (nodes.shape[1], size))
    return (groups * nodes[:, :, None]).flatten(1, 2)


def _straddle(c: Tensor, m: Tensor) -> Tensor:
    """Rotate the pairs (2 k + 1, 2 k + 2) by angles that their scores give."""
    end = 2 * ((c.shape[1] - 1) // 2) + 1
    (a, b), (m_a, m_b) = ((x[:, 1:end:2], x[:, 2:end:2]) for x in (c, m))
    both = torch.logaddexp(m_a, m_b)
    cos, sin = (torch.exp((x - both) / 2)[..., None, None] for x in (m_a, m_b))
    turned = torch.stack((cos * a + sin * b, cos * b - sin * a), 2).flatten(1, 2)
    return torch.cat((c[:, :1], turned, c[:, end:]), 1)
