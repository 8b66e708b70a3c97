"""Ways to differentiate the discrete flow: which states are kept, and which are made again.

autograd       forces from autograd, two a step, every state kept: as it is usually written
backprop       forces in closed form, kicks merged, every state kept
checkpoint     as backprop, but only the state at each step kept (torch.utils.checkpoint);
               checkpoint_sqrt: at sqrt(n) of them
adjoint        nothing kept but the end: each shear is undone, and its transpose applied
adjoint_exact  the same on a lattice, where a shear is undone bit for bit; fused on a GPU, and
               as adjoint_exact_eager by torch's own operators everywhere
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from phasebench.dynamics.adjoint import Method, Problem, adjoint
from phasebench.dynamics.adjoint_exact import adjoint_exact as adjoint_exact_eager
from phasebench.dynamics.adjoint_exact import round_trip as round_trip_eager
from phasebench.dynamics.gpu.adjoint_exact import adjoint_exact, round_trip
from phasebench.dynamics.integrators import INTEGRATORS, State, integrate


def backprop(q: Tensor, p: Tensor, problem: Problem) -> State:
    """Backpropagate through closed-form forces with merged kicks."""
    return integrate(q, p, problem.H.cast(), problem.schedule.shears)


def autograd(q: Tensor, p: Tensor, problem: Problem) -> State:
    """Backpropagate through forces that autograd derives from V, no two kicks merged."""
    H, schedule = problem.H.cast(), problem.schedule
    for shear in INTEGRATORS[schedule.integrator] * schedule.steps:
        if shear.kind == "drift":
            q = q + shear.h * schedule.dt * H.velocity(p)
            continue
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            at = q if q.requires_grad else q.detach().requires_grad_()
            (slope,) = torch.autograd.grad(H.value(at).sum(), at, create_graph=differentiable)
        p = p + shear.h * schedule.dt * -slope
    return q, p


def checkpointed(q: Tensor, p: Tensor, problem: Problem, segments: int | None = None) -> State:
    """Keep one state a segment (None: a step) and compute what is between again.

    What the merging of shears leaves over at the end is one more segment, a short one.
    """
    H, shears = problem.H.cast(), problem.schedule.shears
    size = max(1, (len(shears) - 1) // (segments or problem.schedule.steps))
    for start in range(0, len(shears), size):
        q, p = checkpoint(integrate, q, p, H, shears[start : start + size], use_reentrant=False)
    return q, p


def checkpointed_sqrt(q: Tensor, p: Tensor, problem: Problem) -> State:
    """Keep sqrt(steps) states (Chen et al. 2016, arXiv 1604.06174)."""
    return checkpointed(q, p, problem, math.isqrt(problem.schedule.steps))


GRADIENTS: dict[str, Method] = {
    "adjoint": adjoint,
    "adjoint_exact": adjoint_exact,
    "adjoint_exact_eager": adjoint_exact_eager,
    "backprop": backprop,
    "autograd": autograd,
    "checkpoint": checkpointed,
    "checkpoint_sqrt": checkpointed_sqrt,
}

# of the methods that reverse the trajectory bit for bit: the start, and what comes back, as
# integers
ROUND_TRIPS = {"adjoint_exact": round_trip, "adjoint_exact_eager": round_trip_eager}
