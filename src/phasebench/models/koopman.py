"""A damped linear operator on the token axis: the Koopman memory of Stage 3.

On D complex observables n_t the operator is diagonal (a complex diagonal state-space model,
Orvieto et al. 2023, arXiv 2303.06349):

    lam  = exp(-exp(gam) + i th)              |lam| < 1 by construction
    m_t  = lam m_(t-1) + e n_t,               e = sqrt(1 - |lam|^2),   m_(-1) = 0
    n'_t = s n_t + c m_t                      s real, c complex

With a spectrum of modulus one (`unitary`) e = 1 and m_t is divided by sqrt(t + 1).

Legend: n, m, n' complex states, held as [Re | Im] of shape (B, T, 2 D); gam, th, s of shape (D);
c of shape (2, D); g = dL/dn', a = dL/dm with all that follows; conj the complex conjugate.

The sum over the past is evaluated by doubling, m <- m + lam^(2^k) shift(m, 2^k) for k = 0, 1, ...:
a token's bits do not depend on what follows it, nor on the length of the sequence.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Spectrum = Literal["damped", "unitary"]


def _times(u: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Multiply the complex state u = [Re | Im] by x + i y, a number a channel."""
    a, b = u.chunk(2, -1)
    return torch.cat((a * x - b * y, a * y + b * x), -1)


def accumulate(
    u: Float[Tensor, "B T dim2"],
    decay: Float[Tensor, " D"],
    angle: Float[Tensor, " D"],
    *,
    backwards: bool = False,
) -> Float[Tensor, "B T dim2"]:
    """Compute m_t = lam m_(t-1) + u_t with lam = exp(-decay + i angle), by doubling.

    backwards: m_t = conj(lam) m_(t+1) + u_t, the transpose of it.
    """
    T, shift = u.shape[1], 1
    m = u
    while shift < T:
        modulus = torch.exp(-decay * shift)
        turn = angle * (-shift if backwards else shift)
        x, y = modulus * torch.cos(turn), modulus * torch.sin(turn)
        if backwards:
            m = torch.cat((m[:, :-shift] + _times(m[:, shift:], x, y), m[:, -shift:]), 1)
        else:
            m = torch.cat((m[:, :shift], m[:, shift:] + _times(m[:, :-shift], x, y)), 1)
        shift *= 2
    return m


class _Accumulate(torch.autograd.Function):
    """`accumulate`, whose backward pass computes m again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, decay: Tensor, angle: Tensor) -> Tensor:
        ctx.save_for_backward(u, decay, angle)
        return accumulate(u, decay, angle)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore
        u, decay, angle = ctx.saved_tensors
        a = accumulate(g, decay, angle, backwards=True)
        m = accumulate(u, decay, angle)
        # dL/dlam = sum_t conj(m_(t-1)) a_t; then dlam/ddecay = -lam and dlam/dangle = i lam
        (mx, my), (ax, ay) = m[:, :-1].chunk(2, -1), a[:, 1:].chunk(2, -1)
        dx, dy = (mx * ax + my * ay).sum((0, 1)), (mx * ay - my * ax).sum((0, 1))
        x, y = torch.exp(-decay) * torch.cos(angle), torch.exp(-decay) * torch.sin(angle)
        return a, -(dx * x + dy * y), dy * x - dx * y


class KoopmanMemory(nn.Module):
    """n -> s n + c m, with m the damped linear memory of the tokens so far.

    Args:
        dim: complex channels D.
        span: the longest time constant before training, in tokens. Time constants are spread
            evenly in their logarithm over 1 to span, in random order over the channels.
        spectrum: "damped", or "unitary" (|lam| = 1), an ablation.

    Example:
        >>> memory = KoopmanMemory(4, span=16.0)
        >>> memory(torch.ones(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, dim: int, *, span: float, spectrum: Spectrum = "damped") -> None:
        super().__init__()
        self.spectrum = spectrum
        order = torch.randperm(dim) / max(1, dim - 1)
        self.gam = nn.Parameter(-order * torch.tensor(float(span)).log())
        still = torch.rand(dim) < 0.5
        self.th = nn.Parameter(torch.where(still, 0.0, (torch.rand(dim) - 0.5) * torch.pi))
        self.s = nn.Parameter(torch.ones(dim))
        self.c = nn.Parameter(torch.stack((torch.full((dim,), 0.3), torch.zeros(dim))))

    def operator(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return decay, angle and e, each of shape (D), in float32 or wider."""
        gam, th = (x if x.dtype == torch.float64 else x.float() for x in (self.gam, self.th))
        if self.spectrum == "unitary":
            return torch.zeros_like(gam), th, torch.ones_like(gam)
        decay = torch.exp(gam)
        return decay, th, torch.sqrt(-torch.expm1(-2 * decay))

    def forward(self, n: Float[Tensor, "B T dim2"]) -> Float[Tensor, "B T dim2"]:
        decay, angle, e = self.operator()
        with torch.autocast(n.device.type, enabled=False):
            m = _Accumulate.apply(n.to(e.dtype) * e.repeat(2), decay, angle)
            if self.spectrum == "unitary":
                age = torch.arange(1, n.shape[1] + 1, device=n.device, dtype=e.dtype)
                m = m * age.rsqrt()[:, None]
            return (n * self.s.repeat(2) + _times(m, *self.c)).to(n.dtype)

    def start(self, batch: int, device: torch.device) -> tuple[Tensor, int]:
        """Return the state before the first token: m = 0, and how many tokens it has seen."""
        return torch.zeros(batch, 1, 2 * len(self.gam), device=device), 0

    def step(
        self, n: Float[Tensor, "B 1 dim2"], state: tuple[Tensor, int]
    ) -> tuple[Float[Tensor, "B 1 dim2"], tuple[Tensor, int]]:
        """Compute n' of the next token, and the state after it."""
        (m, age), (decay, angle, e) = state, self.operator()
        modulus = torch.exp(-decay)
        m = n.to(e.dtype) * e.repeat(2) + _times(
            m, modulus * torch.cos(angle), modulus * torch.sin(angle)
        )
        seen = m if self.spectrum == "damped" else m / (age + 1) ** 0.5
        return (n * self.s.repeat(2) + _times(seen, *self.c)).to(n.dtype), (m, age + 1)
