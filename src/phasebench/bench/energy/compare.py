"""Integrators and step sizes beside each other, over the same time and from the same states: the
Pareto data.

A row is the drift that an integrator reaches at one dt and precision, and its cost in force
evaluations and time. Float64 shows an integrator's order, which rounding hides in float32.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from phasebench.bench.clock import Timed, interleaved
from phasebench.bench.energy.trend import trend
from phasebench.config import ConfigError, EnergyConfig
from phasebench.dynamics import CONTRAST, Schedule, force_evaluations, integrate
from phasebench.dynamics.energy import Start, Trace, energies
from phasebench.results.progress import track
from phasebench.results.stats import NOISE, linear_regression

_DTYPES = {"fp32": torch.float32, "fp64": torch.float64}
TIMED = 200  # steps of a flow that are timed, at most
_MIN_STEPS = 8  # for the trend


def grid(config: EnergyConfig) -> list[tuple[str | None, float, int]]:
    """Integrator (None: the model's own), dt and number of steps of each comparison, all of the
    same duration.

    Raises `ConfigError` for a dt that does not divide the duration, or leaves fewer than eight
    steps.
    """
    duration = config.steps * config.dt
    cells = []
    for dt in config.dts or [config.dt]:
        steps = round(duration / dt)
        if steps < _MIN_STEPS or abs(steps * dt - duration) > 1e-6 * duration:
            problem = f"{dt:g} does not divide the duration, steps x dt = {duration:g}, "
            problem += f"into {_MIN_STEPS} steps or more"
            fix = "for a duration of 10: 0.05, 0.1, 0.2, 0.4, 0.5"
            raise ConfigError("bench.energy.dts", config.dts, problem, fix)
        cells += [(name, dt, steps) for name in config.integrators or [config.integrator]]
    return cells


def cast(starts: list[Start], precision: str) -> list[Start]:
    """The same states in fp32 or fp64: forces follow them."""
    dtype = _DTYPES[precision]
    return [(ode, q.to(dtype), p.to(dtype)) for ode, q, p in starts]


def compare(
    starts: list[Start], config: EnergyConfig, seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """A row for each integrator, dt and precision; drifts are None where they are not finite.

    Timed are the integrators beside each other at the first dt, in the first precision: at another
    dt their times are as their force evaluations, and no model runs in another precision.
    """
    cells = [(name or starts[0][0].integrator, dt, steps) for name, dt, steps in grid(config)]
    _, first, steps = cells[0]
    names = [name for name, dt, _ in cells if dt == first]
    timed = seconds(cast(starts, config.precisions[0]), names, steps, first, device)
    rows = []
    for precision in config.precisions:
        own = cast(starts, precision)
        for integrator, dt, steps in track(cells, f"flows in {precision}", len(cells)):
            is_timed = (precision, dt) == (config.precisions[0], first)
            samples = timed[integrator] if is_timed else None
            rows.append(
                {
                    "seed": seed,
                    "integrator": integrator,
                    "dt": dt,
                    "steps": steps,
                    "precision": precision,
                    **_drift(own, integrator, dt, steps),
                    "force_evaluations": force_evaluations(integrator, steps),
                    "seconds": samples and samples.median_s,
                    "seconds_samples": samples and samples.seconds,
                }
            )
    return rows


def drifts(traces: Sequence[Trace]) -> dict[str, float]:
    """Summarise layers' drifts: the largest, the mean, and the largest of a layer's mean energy."""
    return {
        "max_drift": max(trace.worst for trace in traces),
        "mean_drift": statistics.fmean(trace.mean_drift.mean().item() for trace in traces),
        "max_drift_of_batch_mean": max(trace.mean.abs().max().item() for trace in traces),
    }


def _drift(
    starts: list[Start], integrator: str, dt: float, steps: int
) -> Mapping[str, float | None]:
    traces = [
        energies(ode, q, p, steps=steps, dt=dt, integrator=integrator) for ode, q, p in starts
    ]
    if any(trace.bad_step is not None for trace in traces):
        return dict.fromkeys(
            ("max_drift", "mean_drift", "max_drift_of_batch_mean", "monotone_layers")
        )
    rising = sum(trend(trace.mean.tolist()).monotonic for trace in traces)
    return drifts(traces) | {"monotone_layers": rising}


def orders(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each integrator and precision, the order: the slope of ln(mean drift) over ln(dt), with
    its standard error.

    None where fewer than three step sizes have a drift above rounding.
    """
    groups: dict[tuple[str, str], dict[float, float]] = {}
    for row in rows:
        points = groups.setdefault((row["integrator"], row["precision"]), {})
        if row["mean_drift"] is not None and row["mean_drift"] > NOISE[row["precision"]]:
            points[math.log(row["dt"])] = math.log(row["mean_drift"])
    fits = []
    for (integrator, precision), points in groups.items():
        line = linear_regression([*points], [*points.values()]) if len(points) > 2 else None
        fits.append(
            {
                "integrator": integrator,
                "precision": precision,
                "points": len(points),
                "order": line and line.slope,
                "error": line and line.error,
            }
        )
    return fits


def seconds(
    starts: list[Start], integrators: Iterable[str], steps: int, dt: float, device: torch.device
) -> dict[str, Timed]:
    """Seconds of all layers' flows with kicks merged, by integrator: three samples.

    Nothing is run to warm up: taking energies has run the kernels, and the median leaves out one
    slow start.
    """
    things = {name: partial(_flow, starts, name, dt, steps) for name in integrators}
    return interleaved(things, repeats=3, warmup=0, seed=0, device=device)


def _flow(starts: list[Start], integrator: str, dt: float, steps: int) -> None:
    for ode, q, p in starts:
        if integrator in CONTRAST:
            for _ in ode.trajectory(q, p, steps=steps, dt=dt, integrator=integrator):
                pass
        else:
            H = ode.hamiltonian(q.dtype).cast()
            integrate(q, p, H, Schedule(integrator, dt, steps).shears)
