"""What a bench hands back, and what becomes of it in results.json: values with units, gates, the
verdict.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from phasebench.results.jsonfile import plain

Kind = Literal["measured", "predicted", "counted"]
Comparison = Literal["<", "<=", ">", ">=", "=="]
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
# the top-level keys that each bench fills, from its metrics of the same names; `<bench>_pass` is
# the verdict of its gates, `ppl_target` the limit of the gate `ppl_ratio`
SPEC_KEYS: dict[str, tuple[str, ...]] = {
    "ppl": ("stage2_ppl", "stage1_ppl", "ppl_ratio", "ppl_diff_pct", "ppl_target", "ppl_pass"),
    "energy": ("mean_energy", "max_drift", "mean_drift", "monotonic_violation", "energy_pass"),
    "vram": (
        "vram_symplectic_gb",
        "vram_full_backprop_gb",
        "vram_reduction_ratio",
        "vram_reduction_pct",
        "vram_pass",
    ),
}


@dataclass(frozen=True)
class Metric:
    """A value with its unit. Raises ValueError where a null has no reason or the kind is unknown.

    A value that is not finite becomes null when it is recorded.
    """

    value: float | int | str | bool | None
    unit: str
    kind: Kind = "measured"
    reason: str | None = None  # why the value is null
    bound: str | None = None  # why the value is a lower bound only: memory ran out, a search ended

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r}; choices: {', '.join(get_args(Kind))}")
        if self.value is None and not self.reason:
            raise ValueError("a metric without a value needs a reason")

    @property
    def is_bound(self) -> bool:
        """Whether the value is a lower bound only."""
        return self.bound is not None


@dataclass(frozen=True)
class Need:
    """Evidence without which a gate is not measured: how much of what was there, and the least."""

    what: str  # "tokens scored"
    value: float
    least: float


@dataclass(frozen=True)
class Gate:
    """A quantity against its limit. Raises ValueError where a gate that was not measured has no
    reason.

    `name` is the key of the metric that is judged. Benches make gates with `check`; the last three
    fields are missing in the files of former versions.
    """

    name: str
    passed: bool | None  # None: could not be measured
    value: float | None
    target: str  # for people: "<= 1.02"
    reason: str | None = None
    kind: Literal["measured", "predicted"] = "measured"
    comparison: Comparison | None = None
    limit: float | None = None
    needs: tuple[Need, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("measured", "predicted"):
            raise ValueError(f"gate {self.name}: kind {self.kind!r}; choices: measured, predicted")
        if self.passed is None and not self.reason:
            raise ValueError(f"gate {self.name} was not measured and needs a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"gate {self.name}: {self.value} is not finite")

    @classmethod
    def check(
        cls,
        name: str,
        metric: Metric,
        comparison: Comparison,
        limit: float,
        needs: Sequence[Need] = (),
        unit: str = "",
    ) -> Gate:
        """Judge a metric: passed if `value comparison limit` holds; `unit` is shown after the
        limit.

        Not measured where the value is null or not finite, where a need is not met, and where only
        a lower bound is known and a larger value could turn the verdict.
        """
        value = None if metric.value is None else float(metric.value)
        passed, reason = None, metric.reason
        if value is not None and not math.isfinite(value):
            value, reason = None, f"not finite: {value}"
        lacking = [need for need in needs if not need.value >= need.least]
        if value is not None and lacking:
            reason = "; ".join(f"{n.what}: {n.value:.3g}, needed {n.least:g}" for n in lacking)
        elif value is not None:
            passed, reason = COMPARE[comparison](value, limit), None
            if metric.bound and passed is not (comparison in (">", ">=")):
                reason = f"only a lower bound, {value:.4g} {metric.unit}, is known"
                passed = None
        kind = "predicted" if metric.kind == "predicted" else "measured"
        target = f"{comparison} {limit:g}" + (f" {unit}" if unit else "")
        return cls(
            name, passed, value, target, reason, kind, comparison, float(limit), tuple(needs)
        )


@dataclass
class BenchResult:
    """What a bench hands back: metrics by key, gates, raw samples and notices."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    details: Any = field(default_factory=dict)  # a mapping or a dataclass: `$defs` of the schema
    notices: list[str] = field(default_factory=list)


def exit_code(results: Mapping[str, Any]) -> int:
    """The exit code of a run, from the content of its results.json.

    0: every gate passed. 1: a gate failed. 2: something could not be measured (this wins over 1):
    a gate, a bench that has not ended well or, of the specification's, brings no gate, or a run in
    which nothing is judged at all.
    """
    benches = results["benches"]
    gates = [gate for entry in benches.values() for gate in entry["gates"]]
    unjudged = any(
        entry["status"] != "ok" or (name in SPEC_KEYS and not entry["gates"])
        for name, entry in benches.items()
    )
    if not gates or unjudged or any(gate["passed"] is None for gate in gates):
        return 2
    return 1 if any(gate["passed"] is False for gate in gates) else 0


def entry(status: str) -> dict[str, Any]:
    """A bench that has measured nothing (yet)."""
    empty: dict[str, Any] = {"metrics": {}, "gates": [], "details": {}, "notices": []}
    return {"status": status} | empty | {"error": None, "duration_s": None}


def failed(
    kind: str, message: str, traceback: str | None, duration_s: float | None
) -> dict[str, Any]:
    """A bench that an error of this kind (the name of its type) has ended."""
    error = {"type": kind, "message": message, "traceback": traceback}
    return entry("failed") | {"error": error, "duration_s": duration_s}


def finished(result: BenchResult, duration_s: float) -> dict[str, Any]:
    """A bench that ended well. Raises TypeError for a value that JSON cannot hold."""
    lost: dict[str, str] = {}
    details = plain(result.details, "details", lost)
    notices = list(result.notices)
    if lost:
        place, reason = next(iter(lost.items()))
        notices.append(
            f"{len(lost)} values of the details are null, the first at {place}: {reason}"
        )
    metrics = {}
    for key, metric in result.metrics.items():
        reasons: dict[str, str] = {}
        metrics[key] = plain(metric, "", reasons)
        if "value" in reasons:
            metrics[key]["reason"] = reasons["value"]
    return entry("ok") | {
        "metrics": metrics,
        "gates": [plain(gate, "", {}) for gate in result.gates],
        "details": details,
        "notices": notices,
        "duration_s": duration_s,
    }


def spec_values(bench: str, entry: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The specification's keys of a finished bench, and a reason for each null."""
    top: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for key in SPEC_KEYS.get(bench, ()):
        if key == f"{bench}_pass":
            passed = [gate["passed"] for gate in entry["gates"]]
            top[key] = False if False in passed else None if None in passed or not passed else True
            open_gates = (gate for gate in entry["gates"] if gate["passed"] is None)
            reason = "; ".join(f"{gate['name']}: {gate['reason']}" for gate in open_gates)
            reasons[key] = reason or f"bench {bench} has no gate"
            continue
        if key == "ppl_target":
            limits = [gate.get("limit") for gate in entry["gates"] if gate["name"] == "ppl_ratio"]
            metric = {"value": limits[0] if limits else None}
        else:
            metric = entry["metrics"].get(key, {})
        top[key] = metric.get("value")
        reasons[key] = metric.get("reason") or f"bench {bench} did not report it"
    return top, {key: reason for key, reason in reasons.items() if top[key] is None}
