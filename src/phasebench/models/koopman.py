"""Stage 3's memory: a diagonal linear operator on the tokens so far (docs/stage3.md).

On D complex observables n_t, a complex diagonal state-space model (Orvieto et al. 2023, arXiv
2303.06349):

    lam  = exp(-exp(gam) + i th)              |lam| < 1 by construction
    m_t  = lam m_(t-1) + e n_t,               e = sqrt(1 - |lam|^2),   m_(-1) = 0
    n'_t = s n_t + c m_t                      s real, c complex

With a spectrum of modulus one (`unitary`) e = 1, and n' reads m_t / sqrt(t + 1).

Legend: n, m, n' complex states, held as [Re | Im] of shape (B, T, 2 D); gam, th, s of shape (D);
c of 2 D; g = dL/dm_t of one reader, a = dL/dm_t with all that follows; conj the complex conjugate.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from phasebench.dynamics.gpu.launch import launch, no_kernels
from phasebench.models.layers import Past

ROWS, BLOCK = 32, 32  # tokens and channels that a kernel works on at a time


def accumulate(
    u: Float[Tensor, "B T dim2"],
    decay: Float[Tensor, " D"],
    angle: Float[Tensor, " D"],
    *,
    backwards: bool = False,
) -> Float[Tensor, "B T dim2"]:
    """Compute m_t = lam m_(t-1) + u_t with lam = exp(-decay + i angle).

    By one kernel on a GPU, else by doubling, m <- m + lam^(2^k) shift(m, 2^k) for k = 0, 1, ...: a
    token's bits depend neither on what follows it nor on the length.
    backwards: m_t = conj(lam) m_(t+1) + u_t, the transpose.
    """
    # while a block is compiled nobody asks for what runs: the operator chooses when it runs
    if torch.compiler.is_compiling() or _fused(u):
        return _accumulated(u, decay, angle, backwards)
    return _doubled(u, decay, angle, backwards)


def _fused(u: Tensor) -> bool:
    return u.dtype == torch.float32 and u.numel() > 0 and no_kernels(u.device) is None


@torch.library.custom_op(
    "phasebench::accumulate",
    mutates_args=(),
    schema="(Tensor u, Tensor decay, Tensor angle, bool backwards) -> Tensor",
)
def _accumulated(u: Tensor, decay: Tensor, angle: Tensor, backwards: bool) -> Tensor:
    if not _fused(u):
        m = _doubled(u, decay, angle, backwards)
        return m.clone(memory_format=torch.contiguous_format)
    u, (B, T, width) = u.contiguous(), u.shape
    D, m = width // 2, torch.empty_like(u)
    x, y = _polar(decay, -angle if backwards else angle)
    kernels = "phasebench.models.koopman_kernels"
    with torch.cuda.device_of(u):  # which Triton takes to be the current one
        launch(
            kernels,
            "accumulate",
            (B, -(-D // BLOCK)),
            *(u, x, y, m, T, D),
            ROWS=ROWS,
            BLOCK=BLOCK,
            BACKWARDS=backwards,
        )
    return m


@_accumulated.register_fake
def _(u: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(u, memory_format=torch.contiguous_format)


def _doubled(u: Tensor, decay: Tensor, angle: Tensor, backwards: bool) -> Tensor:
    shift = 1
    while shift < u.shape[1]:
        x, y = _polar(decay * shift, angle * (-shift if backwards else shift))
        if backwards:
            u = torch.cat((u[:, :-shift] + _times(u[:, shift:], x, y), u[:, -shift:]), 1)
        else:
            u = torch.cat((u[:, :shift], u[:, shift:] + _times(u[:, :-shift], x, y)), 1)
        shift *= 2
    return u


def _polar(decay: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of exp(-decay + i angle)."""
    return torch.exp(-decay) * torch.cos(angle), torch.exp(-decay) * torch.sin(angle)


def _times(u: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Multiply the state u by x + i y, a number a channel."""
    a, b = u.chunk(2, -1)
    return torch.cat((a * x - b * y, a * y + b * x), -1)


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
        x, y = _polar(decay, angle)
        return a, -(dx * x + dy * y), dy * x - dx * y


class KoopmanMemory(nn.Module):
    """n -> s n + c m, with m the linear memory of the tokens so far.

    Args:
        dim: complex channels D.
        span: the longest time constant before training, in tokens. Time constants are spread
            evenly in their logarithm over 1 to span, in random order over the channels.
        unitary: |lam| = 1, an ablation.

    Examples:
        >>> memory = KoopmanMemory(4, span=16)
        >>> memory(torch.ones(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, dim: int, *, span: int, unitary: bool = False) -> None:
        super().__init__()
        self.unitary = unitary
        order = torch.randperm(dim) / max(1, dim - 1)
        self.gam = nn.Parameter(-order * torch.tensor(float(span)).log())
        still = torch.rand(dim) < 0.5
        self.th = nn.Parameter(torch.where(still, 0.0, (torch.rand(dim) - 0.5) * torch.pi))
        self.s = nn.Parameter(torch.ones(dim))
        self.c = nn.Parameter(torch.cat((torch.full((dim,), 0.3), torch.zeros(dim))))

    def operator(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return -ln |lam|, the angle of lam and e, each of shape (D), in float32 or wider."""
        gam, th = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (self.gam, self.th))
        if self.unitary:
            return torch.zeros_like(gam), th, torch.ones_like(gam)
        decay = torch.exp(gam)
        return decay, th, torch.sqrt(-torch.expm1(-2 * decay))

    def forward(
        self, n: Float[Tensor, "B T dim2"], past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return n'; with a past, of the tokens that follow it, which it takes in."""
        decay, angle, e = self.operator()
        with torch.autocast(n.device.type, enabled=False):
            u, seen = n.to(e.dtype) * e.repeat(2), 0
            if past:
                seen = past["seen"]
                before = _times(past["m"], *_polar(decay, angle))
                u = torch.cat((u[:, :1] + before, u[:, 1:]), 1)
            m = _Accumulate.apply(u, decay, angle)
            if past is not None:
                past.update(m=m[:, -1:], seen=seen + n.shape[1])
            if self.unitary:
                age = torch.arange(seen + 1, seen + 1 + n.shape[1], device=n.device, dtype=e.dtype)
                m = m * age.rsqrt()[:, None]
            return (n * self.s.repeat(2) + _times(m, *self.c.chunk(2))).to(n.dtype)
