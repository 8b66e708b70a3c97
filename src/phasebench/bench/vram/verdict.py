"""What the arms of the memory benchmark come to: metrics an arm, the adjoint against full backprop,
gates.

    reduction = 1 - adjoint / full,   full = the smallest peak of the full-backprop arms

An arm that ran out of memory has a lower bound in place of its peak: then so is the reduction, if
it is a full backprop, and nothing is known of the reduction if it is the adjoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from phasebench.bench.vram.arm import ArmRequest
from phasebench.config import VramConfig
from phasebench.results.gate import BenchResult, Gate, Metric

GB, GIB = 10**9, 2**30
FULL = ("autograd", "backprop")  # the arms that keep every state
ADJOINT = "adjoint_exact"  # the one that is judged

_BREAKDOWN = ("parameters", "gradients", "optimizer", "held", "transient")


@dataclass(frozen=True)
class Arm:
    """One gradient method's peak, in bytes, of allocated memory.

    Attributes:
        request: what the arm computes.
        peak: None where the arm failed; see `error`.
        record: everything known of it, for people: JSON-able, its prediction included.
        bound: the peak is a lower bound, because memory ran out.
    """

    name: str
    request: ArmRequest
    kind: Literal["measured", "predicted"]
    peak: int | None
    record: dict[str, Any]
    bound: bool = False
    error: str | None = None

    @property
    def text(self) -> str:
        """One line for people."""
        if self.peak is None:
            return f"failed: {self.error}"
        at_least, how = ("at least ", "out of memory") if self.bound else ("", self.kind)
        return f"{at_least}{self.peak / GB:.3f} GB ({how})"

    def peak_in(self, unit: str, size: int, failed: str = "") -> Metric:
        """Give the peak in a unit of so many bytes; `failed` precedes the error of a failed arm."""
        value, bound = self.peak and self.peak / size, "out of memory" if self.bound else None
        reason = self.error and failed + self.error
        return Metric(value, unit, self.kind, reason, bound)


def judge(arms: dict[str, Arm], config: VramConfig) -> BenchResult:
    """Metrics, gates, top-level keys and notices of the arms that were asked for."""
    adjoint = _peak(arms, ADJOINT)
    full = _smallest(arms)
    pct, ratio = _reduction(adjoint, full)
    metrics = {
        "vram_symplectic_gb": adjoint,
        "vram_full_backprop_gb": full,
        "vram_reduction_ratio": ratio,
        "vram_reduction_pct": pct,
        "vram_reduction_vs_autograd_pct": _reduction(adjoint, _peak(arms, FULL[0]))[0],
    }
    for arm in arms.values():
        metrics |= {f"{arm.name}_{key}": metric for key, metric in _metrics(arm).items()}
    gates = [
        Gate.check("vram_symplectic_gb", adjoint, "<", config.max_gb, unit="GB"),
        Gate.check("vram_reduction_pct", pct, ">=", config.min_reduction_pct, unit="%"),
    ]
    notices = [f"{arm.name}: {arm.text}" for arm in arms.values() if arm.error or arm.bound]
    return BenchResult(metrics, gates, notices=notices)


def _unknown(arms: dict[str, Arm], reason: str) -> Metric:
    return Metric(None, "GB", next(iter(arms.values())).kind, reason)


def _peak(arms: dict[str, Arm], name: str) -> Metric:
    if name not in arms:
        return _unknown(arms, f"arm {name} is not among bench.vram.arms")
    return arms[name].peak_in("GB", GB, failed=f"arm {name} failed: ")


def _smallest(arms: dict[str, Arm]) -> Metric:
    """The smallest peak of the full backprops asked for; unknown if any of them is."""
    peaks = [_peak(arms, name) for name in FULL if name in arms]
    if not peaks:
        return _unknown(arms, f"no full backprop ({', '.join(FULL)}) is among bench.vram.arms")
    # of an unknown one and of equal ones with and without a bound, the one that claims less
    return min(peaks, key=lambda x: (x.value is not None, x.value or 0.0, not x.is_bound))


def _reduction(adjoint: Metric, full: Metric) -> tuple[Metric, Metric]:
    """In percent, and as the ratio adjoint / full."""
    unit, kind = "adjoint / full backprop", adjoint.kind
    if adjoint.value is None or full.value is None or adjoint.is_bound:
        ran_out = f"arm {ADJOINT} ran out of memory: of its peak only a lower bound is known"
        reason = adjoint.reason or full.reason or ran_out
        return Metric(None, "%", kind, reason), Metric(None, unit, kind, reason)
    value = float(adjoint.value) / float(full.value)
    at_most = f"full backprop ran out of memory: the ratio is at most {value:.4g}"
    ratio = Metric(None, unit, kind, at_most) if full.is_bound else Metric(value, unit, kind)
    return Metric(100 * (1 - value), "%", kind, bound=full.bound), ratio


def _metrics(arm: Arm) -> dict[str, Metric]:
    """An arm's peaks and their parts, in GB; its allocated peak in GiB too."""
    record, is_predicted = arm.record, arm.kind == "predicted"
    passes = [record["prediction"]] if is_predicted else record.get("passes", [])
    no_passes = arm.error or ("out of memory before the pass ended" if arm.bound else None)

    def largest(key: str) -> Metric:
        value = max((step[key] / GB for step in passes), default=None)
        return Metric(value, "GB", arm.kind, no_passes)

    metrics = {"peak_gb": arm.peak_in("GB", GB), "peak_gib": arm.peak_in("GiB", GIB)}
    if is_predicted:
        reason = "needs a GPU: only allocated memory can be predicted"
        metrics |= dict.fromkeys(("reserved_gb", "process_gb"), Metric(None, "GB", reason=reason))
    else:
        process, reason = record.get("process_bytes"), record.get("process_reason") or no_passes
        metrics["reserved_gb"] = largest("reserved")
        metrics["process_gb"] = Metric(process and process / GB, "GB", arm.kind, reason)
    metrics |= {f"{key}_gb": largest(key) for key in _BREAKDOWN}
    if not is_predicted:
        metrics["predicted_gb"] = Metric(record["prediction"]["peak"] / GB, "GB", "predicted")
        error = record.get("prediction_error")
        metrics["prediction_error_pct"] = Metric(
            error and 100 * error, "% of the measured peak", "predicted", no_passes
        )
    return metrics
