"""The adjoint on a lattice, on a GPU: as `exact`, with all that is between two matrix products in one Triton kernel.

Legend: as in `exact` and `kernels`.  Tokens are worked on `ROWS` at a time, since none needs another: the workspace (a
`plan.Plan`) is then the same for every batch and length.

Nothing here waits for the device.  A state that leaves the lattice turns the outputs into NaN, a reversal that misses
its start the gradients; `settle` raises the error as soon as the device has told.
"""

from __future__ import annotations

import functools
import logging
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phasebench.dynamics.adjoint_exact import adjoint_exact as eager
from phasebench.dynamics.adjoint_exact import round_trip as eager_round_trip
from phasebench.dynamics.gpu.launch import no_kernels, pretended
from phasebench.dynamics.gpu.plan import BLOCK, KINDS, LIMIT, Plan, Shape, blocks, launch
from phasebench.dynamics.gradients import State
from phasebench.dynamics.hamiltonian import Potential, Sigma
from phasebench.dynamics.integrators import Shear, duration, schedule
from phasebench.dynamics.lattice import (
    FINEST,
    HEADROOM,
    OF_P,
    Watch,
    low_bits,
    settle,
    with_low_bits,
)
from phasebench.dynamics.precision import float32_products

# tokens at a time, of two bytes a number, half as many of four: on an H100 the products then fill the device
ROWS = 4096
ALIGNED = 16  # numbers: sizes of which every row, wherever it begins, is aligned alike, so that cuBLAS' choice is too
PLANS = 8  # kept for the next call

log = logging.getLogger(__name__)
_plans: OrderedDict[Shape, Plan] = OrderedDict()
_pretended: ContextVar[OrderedDict[Shape, Plan] | None] = ContextVar(
    "pretended", default=None
)  # its own plans


def adjoint_exact(
    q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int
) -> State:
    """Backprop that keeps the final state only and runs the flow backwards bit for bit; see `exact` for the errors.

    By these kernels where they can run, else eagerly, which is logged once.
    """
    reason = refused(q.device, q.dtype, V)
    if reason:
        _notice(reason)
    if reason or not q.numel():
        return eager(q, p, V, integrator, dt, steps)
    if not _recording(q.device):
        settle()
    kind = q.dtype
    with torch.cuda.device_of(q):  # which Triton and the recording take to be the current one
        q1, p1 = _AdjointExact.apply(
            q.float(),
            p.float(),
            V.W,
            V.a,
            V.b,
            V.g,
            V.omega,
            V.sigma,
            V.dtype,
            _shears(integrator, dt, steps),
        )
    return q1.to(kind), p1.to(kind)


def refused(device: torch.device, dtype: torch.dtype, V: Potential) -> str | None:
    """Why the kernels cannot run on such states, or None."""
    what, reason = "the fused kernels of adjoint_exact", no_kernels(device)
    if reason:
        return f"{what} {reason}"
    if dtype == torch.float64:
        return f"{what} hold states in float32, not float64"
    if any(size % ALIGNED for size in V.W.shape):
        return f"{what} need channels and terms in multiples of {ALIGNED}, not {tuple(V.W.shape)[::-1]}"
    if V.sigma not in KINDS:
        return f"{what} do not know this potential"
    return None


@functools.cache
def _shears(integrator: str, dt: float, steps: int) -> tuple[Shear, ...]:
    """Made once, not in every layer of every step."""
    return tuple(schedule(integrator, dt, steps))


@functools.cache
def _notice(reason: str) -> None:
    log.info("%s; it runs eagerly", reason)


def _recording(device: torch.device) -> bool:
    """Whether somebody records a CUDA graph: what is then launched has no results yet, nor may one ask for any."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def release() -> None:
    """Give back the workspaces that are kept for the next call."""
    _plans.clear()


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Within it, fake tensors on the CPU take the memory that they would on a GPU: that of the fused path."""
    token = _pretended.set(OrderedDict())
    try:
        with pretended():
            yield
    finally:
        _pretended.reset(token)


def _plan(tokens: int, V: Potential, shears: tuple[Shear, ...]) -> Plan:
    """The plan for that many tokens: kept ones are found again."""
    most = ROWS * 2 // (V.dtype or V.W.dtype).itemsize
    rows, device = min(most, max(64, 1 << (tokens - 1).bit_length())), V.W.device
    on_gpu = device.type == "cuda"
    shape = Shape(
        rows,
        V.W.shape[1],
        V.W.shape[0],
        V.dtype or V.W.dtype,
        device,
        shears,
        V.g,
        V.omega,
        V.sigma,
        torch.get_float32_matmul_precision(),
        torch.cuda.current_stream(device).cuda_stream if on_gpu else 0,
    )
    own = _pretended.get()
    if own is None and (not on_gpu or _recording(device)):
        return Plan(shape)  # of a recording, its memory is the recording's own
    plans = _plans if own is None else own
    if shape not in plans:
        while len(plans) >= PLANS:
            plans.popitem(last=False)
        plans[shape] = Plan(shape).record() if on_gpu else Plan(shape).pretend()
    plans.move_to_end(shape)
    return plans[shape]


def _rows(x: Tensor) -> Tensor:
    """(tokens, D), with neighbouring channels next to each other."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _chunks(tokens: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, tokens)) for start in range(0, tokens, size))


def _encode(
    plan: Plan, q: Tensor, p: Tensor, sr: Tensor, at: slice, shears: tuple[Shear, ...]
) -> None:
    """Choose the lattices of tokens, as `Lattice.around` does, put them there, and keep their spacings in sr."""
    D = plan.shape.D
    launch(
        "encode",
        (plan.shape.rows,),
        q[at],
        p[at],
        q.stride(0),
        p.stride(0),
        *plan.QP,
        *plan.sr,
        *sr[:, at],
        plan.largest,
        plan.check,
        at.start,
        q.numel(),
        len(q[at]),
        duration(shears),
        plan.shape.omega,
        HEADROOM / LIMIT,
        OF_P,
        D=D,
        WIDTH=1 << (D - 1).bit_length(),
        FINEST=127 + int(math.log2(FINEST)),
        LIMIT=LIMIT,
    )


def _load(plan: Plan, QP: Tensor, sr: Tensor, w: Tensor, v: Tensor, at: slice) -> None:
    room = plan.wv[0]
    launch(
        "load",
        blocks(room),
        *QP[:, at],
        *sr[:, at],
        w[at],
        v[at],
        w.stride(0),
        v.stride(0),
        *plan.QP,
        *plan.sr,
        *plan.wv,
        w[at].numel(),
        room.numel(),
        D=plan.shape.D,
        BLOCK=BLOCK,
    )


class _AdjointExact(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        p: Tensor,
        W: Tensor,
        a: Tensor,
        b: Tensor,
        g: float,
        omega: float,
        sigma: Sigma,
        dtype: torch.dtype | None,
        shears: tuple[Shear, ...],
    ) -> State:
        x, y = _rows(q), _rows(p)
        plan = _plan(len(x), Potential(W, a, b, g, omega, sigma, dtype), shears)
        plan.take(W, a, b, backward=False)
        QP = torch.empty(2, *x.shape, dtype=torch.int32, device=x.device)
        ends = [torch.empty(x.shape, device=x.device) for _ in range(2)]
        sr, largest, start = (
            torch.empty(2, len(x), device=x.device),
            torch.empty_like(plan.largest),
            torch.empty_like(plan.check),
        )
        for at in _chunks(len(x), plan.shape.rows):
            _encode(plan, x, y, sr, at, shears)
            plan.forward()
            launch(
                "finish",
                blocks(x[at]),
                *plan.QP,
                *plan.sr,
                plan.largest,
                plan.check,
                *QP[:, at],
                ends[0][at],
                ends[1][at],
                largest,
                start,
                x[at].numel(),
                D=plan.shape.D,
                LIMIT=LIMIT,
                BLOCK=BLOCK,
            )
        # the end as floats, which whatever comes next is likely to keep too, and a byte a number that they do not tell
        rests = [low_bits(*it) for it in zip(QP, ends, sr[..., None], strict=True)]
        q1, p1 = ends[0].view(q.shape), ends[1].view(p.shape)
        ctx.save_for_backward(q1, p1, *rests, sr, largest, start, W, a, b)
        ctx.plain = (g, omega, sigma, dtype), shears
        ctx.products = torch.get_float32_matmul_precision()
        _watch(largest, start, start)
        return q1, p1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        if not _recording(w.device):
            settle()
        with float32_products(ctx.products):  # the forward pass', or F would have other bits
            return _reversed(ctx, w, v)


def _watch(largest: Tensor, end: Tensor, start: Tensor) -> Tensor:
    """Have the lattice checked; NaN if anything is wrong with it, else 0, on the device."""
    facts = torch.empty(3, device=largest.device)
    launch("judge", (1,), largest, end, start, facts, LIMIT=LIMIT)
    if not _recording(facts.device):  # else the NaN must be enough
        Watch.add(facts, LIMIT)
    return facts[2]


def _reversed(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:
    *kept, sr, largest, start, W, a, b = ctx.saved_tensors
    ends = (x.view(rest.shape) for x, rest in zip(kept[:2], kept[2:], strict=True))
    QP = torch.stack([with_low_bits(*it) for it in zip(ends, kept[2:], sr[..., None], strict=True)])
    plain, shears = ctx.plain
    x, y, tokens = _rows(w), _rows(v), QP.shape[1]
    plan = _plan(tokens, Potential(W, a, b, *plain), shears)
    plan.take(W, a, b, backward=True)
    grads = torch.empty(QP.shape, device=QP.device)
    for at in _chunks(tokens, plan.shape.half):
        _load(plan, QP, sr, x, y, at)
        plan.backward()
        launch(
            "unload",
            blocks(x[at]),
            *plan.QP,
            *plan.wv,
            *grads[:, at],
            plan.check,
            at.start * plan.shape.D,
            grads[0].numel(),
            x[at].numel(),
            BLOCK=BLOCK,
        )
    poison = _watch(largest, plan.check, start)
    grads += poison
    dW, (da, db) = plan.dW + poison, plan.dab.sum(1) + poison
    sums = (total.to(like.dtype) for total, like in ((dW, W), (da, a), (db, b)))
    return grads[0].view(w.shape), grads[1].view(v.shape), *sums, None, None, None, None, None


@torch.no_grad()
def round_trip(
    q: Tensor, p: Tensor, V: Potential, integrator: str, dt: float, steps: int
) -> tuple[Tensor, Tensor]:
    """The start on its lattice, and what the reversal of the flow brings back: (Q, P), integers of shape (2, n, D)."""
    if refused(q.device, q.dtype, V) or not q.numel():
        return eager_round_trip(q, p, V, integrator, dt, steps)
    shears = _shears(integrator, dt, steps)
    x, y = _rows(q.float()), _rows(p.float())
    plan = _plan(len(x), V, shears)
    plan.take(V.W, V.a, V.b, backward=False)
    sr = torch.empty(2, len(x), device=x.device)
    start, back = torch.empty(2, 2, *x.shape, dtype=torch.int32, device=x.device)
    for at in _chunks(len(x), plan.shape.rows):
        _encode(plan, x, y, sr, at, shears)
        start[:, at] = plan.QP[:, : len(x[at])]
        plan.forward()
        back[:, at] = plan.QP[:, : len(x[at])]
    still = torch.zeros_like(x)
    for at in _chunks(len(x), plan.shape.half):
        _load(plan, back, sr, still, still, at)
        plan.backward()
        back[:, at] = plan.QP[:, : len(x[at])]
    return start, back
