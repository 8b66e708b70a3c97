"""What a layer's flow does: without it, a drift says nothing, for a flow without a force is exact.

From (q, p) the flow leads to x, motion without a force to x_free = (q + t c p, p), and the force
taken along that straight path to x_first (first-order perturbation theory). Then

    force_share       |x - x_free| / |x_free - x_start|
    learned_exchange  mean over tokens of max_t |V(t) - V(0)| / E_ref, t after each step
    nonlinearity      |x - x_first| / |x - x_free|
    beyond_linear     |r| / |x - x_free|, r what the best affine map of (q, p) misses of x

Norms are over tokens and channels, in float64, at the model's own steps, dt and integrator. The
affine map is fitted by least squares on half of the tokens, and r taken on the other half.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from phasebench.bench.workbench import Workbench, score_split, starts_of_text
from phasebench.config import EnergyConfig
from phasebench.dynamics import HamiltonianFlow
from phasebench.dynamics.gradients import GRADIENTS
from phasebench.models import LanguageModel
from phasebench.results.progress import track

# tokens a coefficient of the affine map: half of them are fitted, so that it fits no noise
TOKENS_PER_COEFFICIENT = 16
MOST_STEPS = 1000  # of a flow in a perplexity


@dataclass(frozen=True)
class Interaction:
    """The figures of one layer; see the module."""

    force_share: float
    learned_exchange: float
    nonlinearity: float
    beyond_linear: float


@torch.no_grad()
def interaction(flow: HamiltonianFlow, q: Tensor, p: Tensor) -> Interaction:
    """Measure a flow on the states q, p of shape (..., D)."""
    q, p = (x.double().flatten(0, -2) for x in (q, p))
    start = torch.cat((q, p), -1)
    end = torch.cat(GRADIENTS["backprop"](q, p, flow.problem(torch.float64)), -1)
    free = torch.cat(flow.free_motion(q, p), -1)
    first = torch.cat(flow.first_order(q, p), -1)
    return Interaction(
        _ratio(end - free, free - start),
        _exchange(flow, q, p),
        _ratio(end - first, end - free),
        _beyond_linear(start, end, free),
    )


def _ratio(x: Tensor, y: Tensor) -> float:
    """Return |x| / |y|, and 0 where x is 0, whatever y is."""
    size = x.norm()
    return (size / y.norm()).item() if size else 0.0


def _exchange(flow: HamiltonianFlow, q: Tensor, p: Tensor) -> float:
    H = flow.hamiltonian(torch.float64).cast()
    before = H.value(q)
    reference = (H.kinetic(p) + before.abs()).mean()
    largest = torch.zeros_like(before)
    steps = flow.trajectory(q, p, steps=flow.steps, dt=flow.dt)
    for position, _ in steps:
        largest = torch.maximum(largest, (H.value(position) - before).abs())
    return (largest.mean() / reference).item()


def _beyond_linear(start: Tensor, end: Tensor, free: Tensor) -> float:
    if not (start.isfinite().all() and end.isfinite().all()):
        return float("nan")
    half = len(start) // 2
    inputs = torch.cat((start, torch.ones_like(start[:, :1])), -1)
    affine = torch.linalg.lstsq(inputs[:half], end[:half], driver="gels").solution
    forced = end[half:] - free[half:]
    return _ratio(end[half:] - inputs[half:] @ affine, forced) if forced.any() else 0.0


def interactions(
    workbench: Workbench, config: EnergyConfig, model: LanguageModel
) -> list[Interaction]:
    """Measure every layer, from as many states of the split as the affine map needs."""
    states = TOKENS_PER_COEFFICIENT * (2 * workbench.config.model.flow_dim + 1)
    sizes = {"states": states, "batch": config.batch, "seq": config.seq}
    starts = starts_of_text(workbench, model, config.split, **sizes)
    return [interaction(*start) for start in track(starts, "forces of layers", len(starts))]


def _flows(model: LanguageModel) -> list[HamiltonianFlow]:
    return [m for m in model.modules() if isinstance(m, HamiltonianFlow)]


@contextmanager
def flows_as(model: LanguageModel, **settings: object) -> Iterator[None]:
    """Within it, every flow of the model has other attributes, such as run_as, steps and dt."""
    before = [(flow, {name: getattr(flow, name) for name in settings}) for flow in _flows(model)]
    try:
        for flow, _ in before:
            vars(flow).update(settings)
        yield
    finally:
        for flow, values in before:
            vars(flow).update(values)


def perplexities(
    workbench: Workbench, config: EnergyConfig, model: LanguageModel
) -> dict[str, float]:
    """Score the split by the model, by stand-ins of its flows, and by its flows in steps of dt.

    flow: as trained. first_order, free: every flow replaced. fine: the same time in steps of
    bench.energy.dt, if they divide it and are no more than MOST_STEPS.
    """
    flow = _flows(model)[0]
    variants: dict[str, dict[str, object]] = {
        "flow": {},
        "first_order": {"run_as": "first_order"},
        "free": {"run_as": "free"},
    }
    steps = round(flow.time / config.dt)
    if 0 < steps <= MOST_STEPS and abs(steps * config.dt - flow.time) < 1e-9 * flow.time:
        variants["fine"] = {"steps": steps, "dt": config.dt}
    scores = {}
    for name, settings in variants.items():
        with flows_as(model, **settings):
            scores[name] = score_split(
                workbench, model, config.split, batch=config.batch, seq=config.seq
            ).perplexity
    return scores
