"""One layer of bench.energy: its trace, its trend and slopes, and its row in the results."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from phasebench.bench.energy.trend import Slope, Trend, slope, trend
from phasebench.dynamics.energy import Trace

# of each series over all layers together, at most: results.json stays below a megabyte
POINTS = 4000
DIGITS = 6


@dataclass(frozen=True)
class Layer:
    """A layer's trace and what was fitted to it."""

    seed: int
    index: int
    trace: Trace
    trend: Trend  # of the mean energy
    slope: Slope  # of the mean energy
    # of the mean over tokens of |H(t) - H(0)|, in which tokens that drift apart do not cancel
    drift_slope: Slope

    @classmethod
    def of(cls, trace: Trace, seed: int, index: int, dt: float) -> Layer:
        series, drift = trace.mean.tolist(), trace.mean_drift.tolist()
        return cls(seed, index, trace, trend(series), slope(series, dt), slope(drift, dt))

    @property
    def secular(self) -> float:
        """Over the run, in E_ref: the larger fitted change of both lines, with its 95 % error
        added.
        """
        return max(abs(line.change) + line.change_error for line in (self.slope, self.drift_slope))


def thinning(steps: int, layers: int) -> int:
    """Steps between two points of a series in the results.

    >>> thinning(100, 6), thinning(10_000, 6), thinning(10_000, 18)
    (1, 15, 45)
    """
    return -(-steps * layers // POINTS) if steps > 200 else 1


def row(layer: Layer, every: int) -> dict[str, Any]:
    """A layer as plain values; of its series, every so many steps: the value there, or the largest
    since the last.
    """
    trace = layer.trace
    return {
        "seed": layer.seed,
        "layer": layer.index,
        "reference_energy": trace.reference,
        "mean_energy": trace.mean_energy,
        "max_drift": trace.worst,
        "mean_drift": trace.mean_drift.mean().item(),
        "mean_exchange": trace.exchange.mean().item(),
        **asdict(layer.trend),
        "monotonic": layer.trend.monotonic,
        "slope": asdict(layer.slope),
        "drift_slope": asdict(layer.drift_slope),
        "max_q": trace.max_q.max().item(),
        "max_p": trace.max_p.max().item(),
        "free_q": trace.free_q,
        "q_growth_exponent": growth(trace.max_q),
        "drift_of_batch_mean": _rounded(trace.mean[::every]),
        "max_drift_at_step": _rounded(_largest(trace.max_drift, every)),
        "mean_drift_at_step": _rounded(trace.mean_drift[every - 1 :: every]),
        "max_q_at_step": _rounded(trace.max_q[::every]),
    }


def growth(size: Tensor) -> float | None:
    """The power of time with which a size grows over the last nine tenths: 0 bounded, 1 free
    motion.

    None where it is zero at either end.
    """
    tenth = len(size) // 10
    late, end = size[tenth].item(), size[-1].item()
    if len(size) < 20 or not (late > 0 and end > 0):
        return None
    return math.log(end / late) / math.log((len(size) - 1) / tenth)


def _largest(series: Tensor, every: int) -> Tensor:
    """The largest of each `every` values in a row; a remainder goes with the last ones."""
    count = max(1, len(series) // every)
    last = (count - 1) * every
    return torch.cat((series[:last].view(-1, every).amax(1), series[last:].amax(0, keepdim=True)))


def _rounded(series: Tensor) -> list[float]:
    return [float(f"{x:.{DIGITS}g}") for x in series.tolist()]
