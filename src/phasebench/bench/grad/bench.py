"""Gradients of the flow, method by method, against float64 backprop; and what each method keeps in
memory.

The loss is a fixed random linear function of the flow's end, so its gradients are those of the
discrete map itself. Weights and states are random, at the model's sizes; stiffness s multiplies W,
and so the potential's curvature by s^2 (of a potential of one's own, all its matrices).

    error(x) = |x - x64| / |x64| over the gradients of the state, or of a weight; x64 is
    full backprop in float64
    recon    = max |reversed start - start|, of the methods that reverse the trajectory
    held     = bytes that the graph keeps between forward and backward, parameters included
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phasebench.bench.evidence import moved, worst
from phasebench.bench.workbench import Workbench, require_ode
from phasebench.config import GradConfig, ModelConfig, OdeConfig
from phasebench.dynamics import (
    ROUND_TRIPS,
    HamiltonianFlow,
    LatticeOverflow,
    Shear,
    integrate,
)
from phasebench.dynamics.adjoint_exact import lattice_of
from phasebench.models import build_flow
from phasebench.results.gate import BenchResult, Gate, Metric, Need
from phasebench.results.progress import track
from phasebench.training import scoring as evaluation

EXACT = "adjoint_exact"
# of parameters of the flow, where they are those of V(q) = a . sigma(W n + b)
_SHORT = {"potential.W": "W", "potential.a": "a", "potential.b": "b", "log_c.0": "c"}


@dataclass(frozen=True)
class Point:
    """One row of the table: a method at one setting of the sweep."""

    method: str
    integrator: str
    precision: str
    steps: int
    stiffness: float


check = require_ode


def run(workbench: Workbench, config: GradConfig) -> BenchResult:
    """Sweep methods, integrators, precisions, steps and stiffness; judge `adjoint_exact`.

    The gates: a reconstruction error of exactly 0 everywhere; with float32 forces, gradients within
    `max_error` at the model's own integrator and steps and at stiffness 1, and as many bytes held
    at the most steps as at the fewest.
    """
    model, ode = workbench.config.model, workbench.config.model.ode
    bench = _Bench(model, config.tokens, workbench.config.seed, workbench.device)
    # each axis apart, from the model's own setting: a grid would mostly repeat itself
    own = Point("", ode.integrator, "fp32", ode.steps, 1.0)
    axes = {
        "integrator": config.integrators,
        "precision": config.precisions,
        "steps": config.steps,
        "stiffness": config.stiffness,
    }
    others = [dataclasses.replace(own, **{axis: x}) for axis, xs in axes.items() for x in xs]
    settings = dict.fromkeys([own, *others])
    points = [dataclasses.replace(p, method=name) for p in settings for name in config.methods]
    rows = [vars(p) | bench.measure(p) for p in track(points, "grad rows", len(points))]
    return _judge(rows, config, ode)


class _Bench:
    """A flow, a start and a loss, the same at every point."""

    def __init__(self, model: ModelConfig, tokens: int, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.device, self.flow = device, build_flow(model).to(device)
        # a row of its own, not another method under this one's name
        self.flow.on_overflow = "error"
        draws = (torch.randn(1, tokens, model.flow_dim, device=device) / 2**0.5 for _ in range(4))
        self.q, self.p, *self.r = draws
        self._exact: dict[tuple[str, int, float], dict[str, Tensor]] = {}

    def measure(self, point: Point) -> dict[str, Any]:
        """Errors, cosines, reconstruction and bytes at one point; an overflow of the lattice is a
        result.
        """
        key = (point.integrator, point.steps, point.stiffness)
        try:
            gradients, held, motion = self._gradients(point, torch.float32)
            if key not in self._exact:
                # the gradients of full backprop, without the memory it takes in float64
                exact = dataclasses.replace(point, method="checkpoint_sqrt", precision="fp32")
                self._exact[key], _, _ = self._gradients(exact, torch.float64)
        except LatticeOverflow as overflow:
            return {"status": "overflow", "reason": str(overflow)}
        except torch.OutOfMemoryError as error:
            return {"status": "out of memory", "reason": str(error).partition("\n")[0]}
        error, angle = {}, {}
        for name, ref in self._exact[key].items():
            x = gradients[name]
            error[name] = ((x - ref).norm() / ref.norm()).item()
            # from the difference of the unit vectors: 1 - x . y would round to 0 below 1e-16
            angle[name] = ((x / x.norm() - ref / ref.norm()).square().sum() / 2).item()
        return {
            "status": "ok",
            "held_bytes": held,
            "motion": motion,
            "reconstruction": self._reconstruction(point),
            "error": error,
            "one_minus_cosine": angle,
        }

    def _stiff(self, point: Point, dtype: torch.dtype) -> HamiltonianFlow:
        flow = copy.deepcopy(self.flow).to(dtype)
        for matrix in (x for x in flow.potential.weights if x.ndim > 1):
            matrix.data.mul_(point.stiffness)
        flow.steps, flow.integrator, flow.gradient = point.steps, point.integrator, point.method
        return flow

    def _gradients(self, point: Point, dtype: torch.dtype) -> tuple[dict[str, Tensor], int, float]:
        """Return the loss's gradients by the state and each parameter, bytes held, and how far the
        flow moves the state, of itself.
        """
        flow = self._stiff(point, dtype)
        start = [x.to(dtype, copy=True).requires_grad_() for x in (self.q, self.p)]
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with (
            evaluation.autocast(self.device, point.precision),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
        ):
            end = flow(*start)
        q1, p1 = (x * r.to(dtype) for x, r in zip(end, self.r, strict=True))
        with evaluation.matmul_precision(point.precision):
            loss, weights = q1.sum() + p1.sum(), dict(flow.named_parameters())
            inputs = *start, *weights.values()
            dq, dp, *rest = torch.autograd.grad(loss, inputs, materialize_grads=True)
        flow.check()
        z0, z1 = torch.stack(start).detach(), torch.stack(end).detach()
        motion = ((z1 - z0).norm() / z0.norm()).item()
        named = {_SHORT.get(name, name): x for name, x in zip(weights, rest, strict=True)}
        groups = {"state": torch.stack((dq, dp)), **dict(sorted(named.items()))}
        return {name: x.double() for name, x in groups.items()}, sum(kept.values()), motion

    @torch.no_grad()
    def _reconstruction(self, point: Point) -> float | None:
        """Max |reversed start - start|; None for a method that keeps its states."""
        if not point.method.startswith("adjoint"):
            return None
        dtype = evaluation.AUTOCAST_DTYPES.get(point.precision)
        problem = self._stiff(point, torch.float32).problem(dtype)
        with (
            evaluation.autocast(self.device, point.precision),
            torch.autocast(self.device.type, enabled=False),
        ):
            if point.method in ROUND_TRIPS:
                start, back = ROUND_TRIPS[point.method](self.q, self.p, problem)
                lattice = lattice_of(self.q, self.p, problem)
                error = _largest(lattice.decode(*start), lattice.decode(*back))
                differ = not torch.equal(start, back)  # in a bit that float32 may not hold
                return error or math.ulp(0.0) * differ
            H, shears = problem.H.cast(), problem.schedule.shears
            undone = [Shear(shear.kind, -shear.h) for shear in reversed(shears)]
            back = integrate(*integrate(self.q, self.p, H, shears), H, undone)
        return _largest(back, (self.q, self.p))


def _largest(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return max((x - y).abs().max().item() for x, y in zip(one, other, strict=True))


def _judge(rows: list[dict[str, Any]], config: GradConfig, ode: OdeConfig) -> BenchResult:
    exact = [r for r in rows if r["method"] == EXACT]
    measured = [r for r in exact if r["status"] == "ok"]
    in_fp32 = [r for r in measured if r["precision"] == "fp32" and r["stiffness"] == 1.0]
    own = [r for r in in_fp32 if (r["integrator"], r["steps"]) == (ode.integrator, ode.steps)]
    held = {r["steps"]: r["held_bytes"] for r in in_fp32 if r["integrator"] == ode.integrator}
    growth = held[max(held)] - held[min(held)] if len(held) > 1 else None
    span = f", {min(held)} to {max(held)} steps" if held else ""
    lost = [r for r in rows if r["status"] != "ok"]
    reason = "no row of it was measured" if exact else f"{EXACT} is not among bench.grad.methods"
    recon = worst(r["reconstruction"] for r in measured)
    error = worst(x for r in own for x in r["error"].values())
    metrics = {
        "reconstruction": Metric(recon, "units of the state", reason=reason),
        "gradient_error": Metric(error, "relative", reason=reason),
        "held_growth": Metric(growth, "bytes", "counted", reason),
        "rows_not_measured": Metric(len(lost), "rows", "counted"),
    }
    finite = [r for r in measured if all(map(math.isfinite, r["error"].values()))]
    needs = [
        Need(f"rows of {EXACT} with finite gradients", len(finite), len(exact)),
        moved(min((r["motion"] for r in own), default=0.0)),
    ]
    gates = [
        Gate.check("reconstruction", metrics["reconstruction"], "==", 0, needs),
        Gate.check("gradient_error", metrics["gradient_error"], "<=", config.max_error, needs),
        Gate.check("held_growth", metrics["held_growth"], "==", 0, needs, f"bytes{span}"),
    ]
    notices = []
    if lost:
        notices.append(f"{len(lost)} rows were not measured; the first: {lost[0]['reason']}")
    return BenchResult(metrics, gates, {"rows": rows, "table": _table(rows)}, notices)


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups = next((list(row["error"]) for row in rows if row["status"] == "ok"), [])
    errors = [f"err {group}" for group in groups]
    columns = ["method", "integrator", "forces", "steps", "W x", *errors, "recon", "kB"]
    return {"columns": columns, "rows": [_cells(row, groups) for row in rows]}


def _cells(row: dict[str, Any], groups: list[str]) -> list[Any]:
    """A row of the report's table."""
    head = [row[key] for key in ("method", "integrator", "precision", "steps", "stiffness")]
    if row["status"] != "ok":
        return [*head, row["status"], *[None] * (len(groups) + 1)]
    errors = [f"{row['error'][name]:.1e}" for name in groups]
    recon = None if row["reconstruction"] is None else f"{row['reconstruction']:.1e}"
    return [*head, *errors, recon, round(row["held_bytes"] / 1e3)]
