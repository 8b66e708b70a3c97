"""What the arms of the memory benchmark come to: metrics an arm, the adjoint against full backprop,
gates.

    reduction = 1 - adjoint / full,   full = the smallest peak of the full-backprop arms

An arm that ran out of memory has a lower bound in place of its peak: then so is the reduction, if
it is a full backprop, and nothing is known of the reduction if it is the adjoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
        peak: None where the arm failed; see `error`.
        record: everything known of it, for people: JSON-able.
        bound: the peak is a lower bound, because memory ran out.
    """

    name: str
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


@dataclass(frozen=True)
class Quantity:
    """A number that may be a lower bound, or unknown for a reason."""

    value: float | None
    bound: bool = False
    reason: str | None = None

    def metric(self, unit: str, kind: Literal["measured", "predicted"]) -> Metric:
        """As an entry of results.json."""
        return Metric(self.value, unit, kind, self.reason, "out of memory" if self.bound else None)


def judge(arms: dict[str, Arm], config: VramConfig) -> BenchResult:
    """Metrics, gates, top-level keys and notices of the arms that were asked for."""
    kind = next(iter(arms.values())).kind
    adjoint, full = _peak(arms, ADJOINT), _smallest(arms)
    pct, ratio = _reduction(adjoint, full)
    plain, _ = _reduction(adjoint, _peak(arms, FULL[0]))
    compared = {
        "vram_symplectic_gb": (adjoint, "GB"),
        "vram_full_backprop_gb": (full, "GB"),
        "vram_reduction_ratio": (ratio, "adjoint / full backprop"),
        "vram_reduction_pct": (pct, "%"),
    }
    metrics = {key: quantity.metric(unit, kind) for key, (quantity, unit) in compared.items()}
    metrics["vram_reduction_vs_autograd_pct"] = plain.metric("%", kind)
    for arm in arms.values():
        metrics |= _metrics(arm)
    peak, reduction = metrics["vram_symplectic_gb"], metrics["vram_reduction_pct"]
    least = config.min_reduction_pct
    gates = [
        Gate.check("vram_symplectic_gb", peak, "<", config.max_gb, unit="GB"),
        Gate.check("vram_reduction_pct", reduction, ">=", least, unit="%"),
    ]
    notices = [f"{arm.name}: {arm.text}" for arm in arms.values() if arm.error or arm.bound]
    return BenchResult(metrics, gates, notices=notices)


def _peak(arms: dict[str, Arm], name: str) -> Quantity:
    """An arm's peak in GB."""
    if name not in arms:
        return Quantity(None, reason=f"arm {name} is not among bench.vram.arms")
    arm = arms[name]
    if arm.peak is None:
        return Quantity(None, reason=f"arm {name} failed: {arm.error}")
    return Quantity(arm.peak / GB, arm.bound)


def _smallest(arms: dict[str, Arm]) -> Quantity:
    """The smallest peak of the full backprops asked for; unknown if any of them is."""
    found = [_peak(arms, name) for name in FULL if name in arms]
    if not found:
        return Quantity(
            None, reason=f"no full backprop ({', '.join(FULL)}) is among bench.vram.arms"
        )
    unknown = [peak for peak in found if peak.value is None]
    return (
        unknown[0] if unknown else min(found, key=lambda peak: (peak.value or 0.0, not peak.bound))
    )


def _reduction(adjoint: Quantity, full: Quantity) -> tuple[Quantity, Quantity]:
    """In percent, and as the ratio adjoint / full."""
    if adjoint.value is None or full.value is None or adjoint.bound:
        ran_out = f"arm {ADJOINT} ran out of memory: of its peak only a lower bound is known"
        unknown = Quantity(None, reason=adjoint.reason or full.reason or ran_out)
        return unknown, unknown
    ratio = adjoint.value / full.value
    at_most = f"full backprop ran out of memory: the ratio is at most {ratio:.4g}"
    known = Quantity(None, reason=at_most) if full.bound else Quantity(ratio)
    return Quantity(100 * (1 - ratio), full.bound), known


def _metrics(arm: Arm) -> dict[str, Metric]:
    """An arm's peaks and their parts, in GB; its allocated peak in GiB too."""
    peak = Quantity(arm.peak and arm.peak / GB, arm.bound, arm.error)
    in_gib = Quantity(arm.peak and arm.peak / GIB, arm.bound, arm.error)
    found = {"peak_gb": peak.metric("GB", arm.kind), "peak_gib": in_gib.metric("GiB", arm.kind)}
    found |= {f"{key}_gb": metric for key, metric in _device_metrics(arm).items()}
    found |= {f"{key}_gb": _bytes(_largest(arm, key), arm, _no_passes(arm)) for key in _BREAKDOWN}
    if arm.kind == "measured":
        found["predicted_gb"] = Metric(arm.record["prediction"]["peak"] / GB, "GB", "predicted")
        error = arm.record.get("prediction_error")
        found["prediction_error_pct"] = Metric(
            None if error is None else 100 * error,
            "% of the measured peak",
            "predicted",
            _no_passes(arm),
        )
    return {f"{arm.name}_{key}": metric for key, metric in found.items()}


def _device_metrics(arm: Arm) -> dict[str, Metric]:
    if arm.kind == "predicted":
        reason = "needs a GPU: only allocated memory can be predicted"
        return {key: Metric(None, "GB", "measured", reason) for key in ("reserved", "process")}
    reason = arm.record.get("process_reason") or _no_passes(arm)
    return {
        "reserved": _bytes(_largest(arm, "reserved"), arm, _no_passes(arm)),
        "process": _bytes(arm.record.get("process_bytes"), arm, reason),
    }


def _no_passes(arm: Arm) -> str | None:
    return arm.error or ("out of memory before the pass ended" if arm.bound else None)


def _largest(arm: Arm, key: str) -> int | None:
    """The most over an arm's passes, or its prediction where that is all there is."""
    passes = [arm.record["prediction"]] if arm.kind == "predicted" else arm.record.get("passes", [])
    return max((found[key] for found in passes), default=None)


def _bytes(value: int | None, arm: Arm, reason: str | None) -> Metric:
    return Metric(None if value is None else value / GB, "GB", arm.kind, reason)
