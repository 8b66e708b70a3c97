"""The adjoint on a lattice, on a GPU: all between two matrix products is one Triton kernel.

Legend: as in `dynamics.adjoint_exact` and `kernels`.  Tokens are worked on `ROWS` at a time, since
none needs another: the workspace (a `plan.Plan`) is then the same for every batch and length.

Nothing here waits for the device.  A state that leaves the lattice turns the outputs into NaN, a
reversal that misses its start the gradients; the problem's `Watch` raises the error once somebody
waits for the device and asks.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from phasebench.dynamics.adjoint import Problem
from phasebench.dynamics.adjoint_exact import adjoint_exact as eager
from phasebench.dynamics.adjoint_exact import round_trip as eager_round_trip
from phasebench.dynamics.gpu.launch import capturing, no_kernels, pretending, workspaces
from phasebench.dynamics.gpu.plan import BLOCK, KINDS, LIMIT, Plan, Shape, blocks, launch, recorded
from phasebench.dynamics.hamiltonian import Hamiltonian
from phasebench.dynamics.integrators import State
from phasebench.dynamics.lattice import FINEST, HEADROOM, KICKED, OF_P
from phasebench.dynamics.perceptron import PerceptronPotential
from phasebench.dynamics.precision import float32_products

# tokens at a time, of two bytes a number, half as many of four: on an H100 the products then fill
# the device
ROWS = 4096
# numbers: sizes of which every row, wherever it begins, is aligned alike, so that cuBLAS' choice is
# too
ALIGNED = 16
PLANS = 8  # kept for the next call

log = logging.getLogger(__name__)


def adjoint_exact(q: Tensor, p: Tensor, problem: Problem) -> State:
    """Keep the final state only and run the flow backwards bit for bit.

    By these kernels where they can run, else eagerly, which is logged once.
    """
    reason = refused(q.device, q.dtype, problem.H)
    if reason:
        _notice(reason)
    if reason or not q.numel():
        return eager(q, p, problem)
    given = q.dtype
    with torch.cuda.device_of(q):  # which Triton and the recording take to be the current one
        q1, p1 = _AdjointExact.apply(problem, q.float(), p.float(), *problem.H.weights)
    return q1.to(given), p1.to(given)


def refused(device: torch.device, dtype: torch.dtype, H: Hamiltonian) -> str | None:
    """Return why the kernels cannot run on such states, or None."""
    what, reason, V = "the fused kernels of adjoint_exact", no_kernels(device), H.potential
    if reason:
        return f"{what} {reason}"
    if not isinstance(V, PerceptronPotential) or V.sigma not in KINDS:
        return f"{what} do not know this potential"
    if dtype == torch.float64:
        return f"{what} hold states in float32, not float64"
    if not H.c.ndim:
        return f"{what} need a mass of each channel (dim)"
    if any(size % ALIGNED for size in V.W.shape):
        shape = tuple(V.W.shape)[::-1]
        return f"{what} need channels and terms in multiples of {ALIGNED}, not {shape}"
    return None


@functools.cache
def _notice(reason: str) -> None:
    log.info("%s; it runs eagerly", reason)


def _plan(tokens: int, problem: Problem) -> Plan:
    """Return the plan for that many tokens; kept ones are found again."""
    V: Any = problem.H.potential
    dtype, device = problem.H.dtype or V.W.dtype, V.W.device
    on_gpu = device.type == "cuda"
    shape = Shape(
        rows=min(ROWS * 2 // dtype.itemsize, max(64, 1 << (tokens - 1).bit_length())),
        D=V.W.shape[1],
        H=V.W.shape[0],
        dtype=dtype,
        device=device,
        schedule=problem.schedule,
        sigma=V.sigma,
        eps=V.eps,
        precision=torch.get_float32_matmul_precision(),
        stream=torch.cuda.current_stream(device).cuda_stream if on_gpu else 0,
    )
    if capturing(device) or not (on_gpu or pretending()):
        return Plan(shape)  # of a capture, its memory is the graph's own
    plans = workspaces()
    if shape not in plans:
        while len(plans) >= PLANS:
            plans.popitem(last=False)
        plan = Plan(shape)
        if on_gpu:
            plan.forward, plan.backward = recorded(plan.forward), recorded(plan.backward)
        else:
            plan.pretend()
        plans[shape] = plan
    plans.move_to_end(shape)
    return plans[shape]


def _rows(x: Tensor) -> Tensor:
    """Return rows (tokens, D) whose channels are next to each other."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(-1) == 1 else rows.contiguous()


def _chunks(tokens: int, size: int) -> Iterator[slice]:
    starts = range(0, tokens, size)
    # of a prediction, the first stands for all: beside its views, a chunk takes no memory
    first = starts[:1] if pretending() else starts
    return (slice(start, min(start + size, tokens)) for start in first)


def _advance(
    problem: Problem, q: Tensor, p: Tensor, begin: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Take rows (n, D) through the flow.

    Returns q, p, their rests (`Grid.low_bits`), their spacings, largest and the start's
    checksum. Puts the start on its lattice into `begin`, of shape (2, n, D), if that is given.
    """
    n, D = q.shape
    plan = _plan(n, problem)
    plan.take(*problem.H.weights)
    new = functools.partial(torch.empty, device=q.device)
    ends, rests, sr = (new(n, D), new(n, D)), new(2, n, D, dtype=torch.int8), new(2, n)
    largest, start = torch.empty_like(plan.largest), torch.empty_like(plan.check)
    for at in _chunks(n, plan.shape.rows):
        # the lattices as `Lattice.around` chooses them
        launch(
            "encode",
            (plan.shape.rows,),
            *(q[at], p[at], q.stride(0), p.stride(0), plan.c, *plan.QP, *plan.sr, *sr[:, at]),
            *(plan.largest, plan.check, at.start, q.numel(), len(q[at])),
            *(problem.schedule.reach, HEADROOM / LIMIT, OF_P, KICKED),
            D=D,
            WIDTH=plan.row["WIDTH"],
            FINEST=127 + int(math.log2(FINEST)),
            LIMIT=LIMIT,
        )
        if begin is not None:
            begin[:, at] = plan.QP[:, : len(q[at])]
        plan.forward()
        launch(
            "finish",
            blocks(q[at]),
            *(*plan.QP, *plan.sr, plan.largest, plan.check),
            *(*(x[at] for x in ends), *rests[:, at], largest, start, q[at].numel()),
            D=D,
            LIMIT=LIMIT,
            BLOCK=BLOCK,
        )
    return *ends, *rests, sr, largest, start


def _retreat(
    plan: Plan, problem: Problem, kept: tuple[Tensor, ...], w: Tensor, v: Tensor
) -> Iterator[slice]:
    """Take rows, as `_advance` kept them, and adjoints back; yields each chunk, on the plan."""
    q, p, rest_q, rest_p, (s, r) = kept[:5]
    plan.take(*problem.H.weights)
    for at in _chunks(len(rest_q), plan.shape.half):
        launch(
            "load",
            blocks(plan.wv[0]),
            *(x[at] for x in (q, p, rest_q, rest_p, s, r, w, v)),
            *(w.stride(0), v.stride(0), *plan.QP, *plan.sr, *plan.wv),
            *(w[at].numel(), plan.wv[0].numel()),
            D=plan.shape.D,
            BLOCK=BLOCK,
        )
        plan.backward()
        yield at


class _AdjointExact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, q: Tensor, p: Tensor, *weights: Tensor) -> State:
        q1, p1, *kept, largest, start = _advance(problem, _rows(q), _rows(p))
        # the end as floats, which whatever comes next is likely to keep too, and a byte a number
        q1, p1 = q1.view(q.shape), p1.view(p.shape)
        ctx.save_for_backward(q1, p1, *kept, largest, start, *weights)
        ctx.problem, ctx.products = problem, torch.get_float32_matmul_precision()
        _judge(problem, largest, start, start)
        return q1, p1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, w: Tensor, v: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        q, p, rest_q, rest_p, sr, largest, start, *weights = ctx.saved_tensors
        problem, x, y = ctx.problem, _rows(w), _rows(v)
        kept = _rows(q), _rows(p), rest_q, rest_p, sr
        grads = torch.empty(2, *x.shape, device=x.device)
        with float32_products(ctx.products):  # the forward pass', or F would have other bits
            plan = _plan(len(x), problem)
            for at in _retreat(plan, problem, kept, x, y):
                grads[:, at] = plan.wv[:, : len(x[at])]
                launch(
                    "tally",
                    blocks(x[at]),
                    *(*plan.QP, plan.check, at.start * plan.shape.D, x.numel(), x[at].numel()),
                    BLOCK=BLOCK,
                )
        poison = _judge(problem, largest, plan.check, start)
        grads += poison
        sums = plan.dW, *plan.dab.sum(1), plan.dc.sum(0)
        sums = ((dx + poison).to(like.dtype) for dx, like in zip(sums, weights, strict=True))
        return None, grads[0].view(w.shape), grads[1].view(v.shape), *sums


def _judge(problem: Problem, largest: Tensor, end: Tensor, start: Tensor) -> Tensor:
    """Tell the problem's watch how the lattice fared; NaN if anything is wrong with it, else 0."""
    poison = torch.empty((), device=largest.device)
    facts = problem.watch.facts(largest.device)
    launch("judge", (1,), largest, end, start, facts, poison, LIMIT=LIMIT)
    return poison


@torch.no_grad()
def round_trip(q: Tensor, p: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """The start on its lattice, and what the reversal of the flow brings back, as (Q, P).

    Integers of shape (2, tokens, D).
    """
    if refused(q.device, q.dtype, problem.H) or not q.numel():
        return eager_round_trip(q, p, problem)
    x, y = _rows(q.float()), _rows(p.float())
    start, back = torch.empty(2, 2, *x.shape, dtype=torch.int32, device=x.device)
    kept, still = _advance(problem, x, y, start), torch.zeros_like(x)
    plan = _plan(len(x), problem)
    for at in _retreat(plan, problem, kept, still, still):
        back[:, at] = plan.QP[:, : len(x[at])]
    return start, back
