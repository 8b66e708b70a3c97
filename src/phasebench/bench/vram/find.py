"""Memory over sequence length, batch or steps: curves, and the largest value that fits.

A value fits by prediction if the simulated allocator never needs to reserve more than `USED` of the
limit. Memory grows with each of the three, so the largest value of a grid is found by bisection. It
begins a little below where the secant method has the peak meet the limit: what is cut up and cannot
be used (fragmentation) takes up to a tenth, and makes a value now and then fit although a smaller
one does not.

On a GPU the value found is run under `torch.cuda.set_per_process_memory_fraction`, and where that
runs out of memory, smaller ones until one fits: both are reported. The CUDA context is no part of
the limit.
"""

from __future__ import annotations

import bisect
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from phasebench.bench.child import ChildFailed, call, each
from phasebench.bench.vram.allocator import PredictedOutOfMemory
from phasebench.bench.vram.arm import ArmRequest, measure, predict
from phasebench.bench.vram.gpus import Gpu
from phasebench.bench.vram.meter import StepBytes
from phasebench.bench.vram.verdict import Arm
from phasebench.config import VramConfig
from phasebench.results.gate import BenchResult, Metric
from phasebench.results.progress import Work, track

UNITS = {"seq": "tokens a sequence", "batch": "sequences", "steps": "integrator steps a layer"}
# the values that are looked at; the search goes no further
GRIDS = {
    "seq": (*range(64, 8192, 64), *range(8192, 2**18 + 1, 512)),
    "batch": range(1, 2**12 + 1),
    "steps": range(1, 101),
}
GRID_TEXTS = {
    "seq": "multiples of 64, from 8,192 on of 512",
    "batch": "every number",
    "steps": "every number",
}
WORK = 1500  # flow steps whose prediction takes as long as the start of a process
TRIES = 12  # of smaller values, where the predicted one does not fit
# of the limit; the rest is for fragmentation that the simulation does not foresee (docs/memory.md)
USED = 0.85
_STEP_DOWN = 0.02  # of a value that does not fit, to the next that is tried
_SECANTS, _NEAR = 3, 0.05  # steps of the secant method, at most; a step so small is the last
_USABLE = 0.95  # what fragmentation leaves


class Prediction(NamedTuple):
    """An arm's memory by prediction, the bytes that its allocator reserves, the time it took."""

    step: StepBytes
    reserved: int
    seconds: float


@dataclass
class Fit:
    """An arm's largest value that fits by prediction, and by a run; None: none does."""

    predicted: int | None
    capped: bool = False  # the search ended at its cap: larger values may fit too
    # [value, fits], in the order of the search
    tried: list[list[Any]] = field(default_factory=list)
    confirmed: int | None = None
    runs: list[dict[str, Any]] = field(default_factory=list)  # on the GPU: value, status, error
    reason: str | None = None  # why nothing is confirmed

    @property
    def text(self) -> str:
        """What is predicted, for people."""
        return f"{'>= ' if self.capped else ''}{self.predicted or 'none'}"


def predictions(
    requests: Mapping[str, ArmRequest], config: VramConfig, gpu: Gpu
) -> dict[tuple[str, str, int], Prediction]:
    """Predict the arms, by (name, "", 0), and the points (name, axis, value) of their curves."""
    wanted = {(name, "", 0): request for name, request in requests.items()}
    for axis, values in _axes(config).items():
        for name, request in requests.items():
            others = set(values) - {request.value(axis)}
            wanted |= {(name, axis, x): request.at(axis, x) for x in others}
    # long predictions first, so that no process is left with one at the end
    order = sorted(wanted, key=lambda place: -wanted[place].model.ode.steps)
    work = sum(request.model.blocks * request.model.ode.steps for request in wanted.values())
    made = each(timed, [(wanted[place], gpu) for place in order], work // WORK, "predictions")
    return dict(zip(order, made, strict=True))


def timed(request: ArmRequest, gpu: Gpu) -> Prediction:
    """Predict an arm, and take the time of that."""
    start = time.perf_counter()
    step, reserved = predict(request, gpu)
    return Prediction(step, reserved, time.perf_counter() - start)


def _axes(config: VramConfig) -> dict[str, list[int]]:
    axes = {"steps": config.curve_steps, "seq": config.curve_seq}
    return {axis: values for axis, values in axes.items() if values}


def curves(
    requests: Mapping[str, ArmRequest],
    predicted: Mapping[tuple[str, str, int], Prediction],
    config: VramConfig,
) -> dict[str, dict[str, Any]]:
    """Return the arms' peaks over the number of steps and over the sequence length, for a plot.

    By axis: its ``unit``, the run's ``own`` value, and by arm the ``points`` [value, bytes].
    """
    axes: dict[str, dict[str, Any]] = {}
    for axis in _axes(config):
        points = {
            name: [[request.value(axis), predicted[name, "", 0].step.peak]]
            for name, request in requests.items()
        }
        for name, at, x in predicted:
            if at == axis:
                bisect.insort(points[name], [x, predicted[name, at, x].step.peak])
        own = next(iter(requests.values())).value(axis)
        axes[axis] = {"unit": UNITS[axis], "kind": "predicted", "own": own, "points": points}
    return axes


def find(
    result: BenchResult,
    arms: Mapping[str, Arm],
    config: VramConfig,
    gpu: Gpu,
    say: Callable[[str], None],
    *,
    confirm: bool,
) -> None:
    """Search each arm's largest value, run it if it is to be confirmed; add metrics and details.

    The search keeps a processor busy for seconds: so many arms are searched at one time.
    """
    jobs = [(arm.request, arm.record["prediction"], config, gpu) for arm in arms.values()]
    fits = dict(zip(arms, each(search, jobs, len(jobs), f"{config.find}, arms"), strict=True))
    for name, fit in track(fits.items(), "confirmed", len(fits)):
        if not confirm:
            fit.reason = "needs a GPU"
        elif fit.predicted is None:
            fit.reason = "nothing fits by prediction"
        else:
            _confirm(fit, fit.predicted, arms[name].request, config)
        _add(result, name, fit, config)
        runs = f"; runs with {fit.confirmed}" if fit.confirmed else ""
        limit = f"{config.limit_gb:g} GB (predicted)"
        say(f"  {name}: {config.find} up to {fit.text} in {limit}{runs}")
    axis = str(config.find)
    result.details["table"] = {
        "columns": ["arm", "find", "predicted", "confirmed"],
        "rows": [[name, axis, fit.text, fit.confirmed] for name, fit in fits.items()],
    }
    result.details["fits"] = {
        "find": axis,
        "limit_gb": config.limit_gb,
        "grid": GRID_TEXTS[axis],
        "cap": GRIDS[axis][-1],
        "unit": UNITS[axis],
        "arms": {name: dataclasses.asdict(fit) for name, fit in fits.items()},
    }


def _add(result: BenchResult, name: str, fit: Fit, config: VramConfig) -> None:
    """Add an arm's metrics, and a notice if a run did not bear its prediction out."""
    axis, unit = str(config.find), UNITS[str(config.find)]
    cap = f"the search ends at {GRIDS[axis][-1]}" if fit.capped else None
    none = f"not even {GRIDS[axis][0]} fits into {config.limit_gb:g} GB"
    result.metrics |= {
        f"{name}_fits_{axis}": Metric(fit.predicted, unit, "predicted", none, cap),
        f"{name}_fits_{axis}_confirmed": Metric(fit.confirmed, unit, reason=fit.reason),
    }
    if fit.runs and fit.confirmed != fit.predicted:
        result.notices.append(
            f"{name}: {axis}={fit.predicted} was predicted to fit, but "
            f"{fit.confirmed or 'nothing'} did: {fit.runs[0]['status']}"
        )


def search(request: ArmRequest, own: Mapping[str, int], config: VramConfig, gpu: Gpu) -> Fit:
    """Search the largest value that fits by prediction; `own` is that at the request's value."""
    axis, limit = str(config.find), int(USED * _limit(config))
    grid = GRIDS[axis]
    tried: list[list[Any]] = []

    def fits(k: int) -> bool:
        work.show(f"{axis} {grid[k - 1]:,}?", *(f"{x:,} {told[fit]}" for x, fit in tried[-1:]))
        asked = dataclasses.replace(request.at(axis, grid[k - 1]), limit_bytes=limit)
        try:
            predict(asked, gpu)
            tried.append([grid[k - 1], True])
        except PredictedOutOfMemory:
            tried.append([grid[k - 1], False])
        return tried[-1][1]

    told = {True: "fits", False: "does not fit"}
    with Work(request.model.ode.gradient, None) as work:
        work.show(f"{axis}: a first guess")
        guess = bisect.bisect(grid, _guess(request, own, axis, limit, gpu))
        best = largest(fits, max(1, guess), len(grid))
    return Fit(grid[best - 1] if best else None, best == len(grid), tried)


def _limit(config: VramConfig) -> int:
    return int(1e9 * (config.limit_gb or 0))


def _guess(request: ArmRequest, own: Mapping[str, int], axis: str, limit: int, gpu: Gpu) -> int:
    """Guess a value a little below where the peak meets the limit; of a flat peak, the cap.

    The secant method begins at the own value and at no tokens, with parameters and gradients
    alone; or at half the steps.
    """
    least, cap = GRIDS[axis][0], GRIDS[axis][-1]
    x0, y0, x1, y1 = 0, own["before"] + own["gradients"], request.value(axis), own["peak"]
    if axis == "steps":
        x0 = max(1, x1 // 2)
        y0 = predict(request.at(axis, x0), gpu)[0].peak
    for _ in range(_SECANTS):
        if x0 == x1 or (y1 - y0) / (x1 - x0) <= 0:
            return cap
        x = x1 + (limit - y1) * (x1 - x0) / (y1 - y0)
        x0, y0, x1 = x1, y1, int(min(cap, max(least, x)))
        if abs(x1 - x0) <= max(least, _NEAR * x1):
            break
        y1 = predict(request.at(axis, x1), gpu)[0].peak
    return int(_USABLE * x1)


def largest(fits: Callable[[int], bool], guess: int, cap: int) -> int:
    """Find the largest k from 1 to cap for which fits(k), a monotone test; 0 if 1 does not fit.

    Examples:
        >>> largest(lambda k: k * k <= 2000, guess=40, cap=1000)
        44
    """
    low, high = 0, cap + 1
    k, step = guess, max(1, guess // 32)
    while low < k < high:
        if fits(k):
            low = k
        else:
            high = k
        bracketed = low > 0 and high <= cap
        k = (low + high) // 2 if bracketed else min(cap, low + step) if low else max(1, high - step)
        step = step if bracketed else 2 * step
    return low


def _confirm(fit: Fit, k: int, request: ArmRequest, config: VramConfig) -> None:
    """Run the value k under the limit, and where it does not fit, smaller ones."""
    axis = str(config.find)
    grid = GRIDS[axis]
    for _ in range(TRIES):
        asked = dataclasses.replace(request.at(axis, k), limit_bytes=_limit(config), repeats=1)
        try:
            answer = call(measure, asked, timeout_s=config.timeout_s)
        except ChildFailed as failure:
            fit.reason = str(failure)
            fit.runs.append({"value": k, "status": "failed", "error": str(failure)})
            return
        fit.runs.append({"value": k, **answer})
        if answer["status"] == "ok":
            fit.confirmed = k
            return
        below = bisect.bisect(grid, min((1 - _STEP_DOWN) * k, k - 1))
        if not below:
            break
        k = grid[below - 1]
    fit.reason = "no smaller value that was tried fits either"
