"""What a bench hands back, and what becomes of it in results.json: values with units, gates, the
verdict.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from phasebench.results.jsonfile import Json, plain

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


def _ends(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{end}" for name in names for end in ("", "_low", "_high"))


# the same of Stage 3, in runs with one of its benches; two benches may fill one, the first one wins
STAGE3_KEYS: dict[str, tuple[str, ...]] = {
    "parts": (
        "stage3_ppl",
        *_ends("stage3_ratio"),
        "stage3_time_ratio",
        "stage3_vram_ratio",
        "stage3_leak",
        *_ends("koopman_memory_effect_pct", "mera_effect_pct", "dialectic_effect_pct"),
        "dialectic_ece",
        "control_ece",
        "dialectic_brier",
        "control_brier",
        "dialectic_temperature",
        "dialectic_auroc_gain",
        *_ends("entropic_tokens_ratio"),
        "entropic_tokens_ratio_random",
        "entropic_time_ratio",
    ),
    "koopman": (
        "koopman_iterated_error",
        "koopman_iterated_error_leapfrog",
        "koopman_spectral_radius",
    ),
    "recall": (
        "koopman_memory_recall",
        "mera_recall",
        "mera_recall_attention",
        "mera_recall_no_positions",
        "mera_cost_exponent",
        "attention_cost_exponent",
    ),
    "ppl": ("stage3_ppl", *_ends("stage3_ratio"), "stage3_leak"),
}


@dataclass(frozen=True)
class Metric:
    """A value with its unit. Raises ValueError where a null has no reason.

    A value that is not finite becomes null when it is recorded.
    """

    value: float | int | str | bool | None
    unit: str
    kind: Kind = "measured"
    reason: str | None = None  # why the value is null
    bound: str | None = None  # why the value is a lower bound only: memory ran out, a search ended

    def __post_init__(self) -> None:
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


def table(rows: Sequence[Json], keys: Sequence[str]) -> Json:
    """Show some keys of a bench's rows: the ``table`` of its details, which the report prints."""
    columns = [key.replace("_", " ") for key in keys]
    return {"columns": columns, "rows": [[row[key] for key in keys] for row in rows]}


def exit_code(results: Json) -> int:
    """The exit code of a run, from the content of its results.json.

    0: every gate passed. 1: a gate failed. 2: something could not be measured (this wins over 1):
    a gate, a bench that has not ended well or, of the specification's, brings no gate, or a run in
    which nothing is judged at all.
    """
    benches = results["benches"]
    failed_gates, unmeasured = unmet(benches)
    if unmeasured or not any(bench["gates"] for bench in benches.values()):
        return 2
    return 1 if failed_gates else 0


def unmet(benches: Json) -> tuple[list[str], list[str]]:
    """Name the gates that failed; and the benches and gates that were not measured.

    A bench was not if it has not ended well or, of the specification's, brings no gate.
    """
    gates = [
        (f"{name} {gate['name']}", gate["passed"])
        for name, bench in benches.items()
        for gate in bench["gates"]
    ]
    unmeasured = [
        name
        for name, bench in benches.items()
        if bench["status"] != "ok" or (name in SPEC_KEYS and not bench["gates"])
    ]
    failed_gates = [name for name, passed in gates if passed is False]
    return failed_gates, unmeasured + [name for name, passed in gates if passed is None]


def entry(status: str) -> Json:
    """A bench that has measured nothing (yet)."""
    empty: Json = {"metrics": {}, "gates": [], "details": {}, "notices": []}
    return {"status": status} | empty | {"error": None, "duration_s": None}


def failed(kind: str, message: str, traceback: str | None, duration_s: float | None) -> Json:
    """A bench that an error of this kind (the name of its type) has ended."""
    error = {"type": kind, "message": message, "traceback": traceback}
    return entry("failed") | {"error": error, "duration_s": duration_s}


def finished(result: BenchResult, duration_s: float) -> Json:
    """A bench that ended well. Raises TypeError for a value that JSON cannot hold."""
    lost: dict[str, str] = {}
    details, notices = plain(result.details, "details", lost), list(result.notices)
    if lost:
        place, reason = next(iter(lost.items()))
        first = f"the first at {place}: {reason}"
        notices.append(f"{len(lost)} values of the details are null, {first}")
    metrics = {}
    for key, metric in result.metrics.items():
        reasons: dict[str, str] = {}
        metrics[key] = plain(metric, "", reasons)
        metrics[key]["reason"] = reasons.get("value", metric.reason)
    return entry("ok") | {
        "metrics": metrics,
        "gates": plain(result.gates, "gates", {}),
        "details": details,
        "notices": notices,
        "duration_s": duration_s,
    }


def top_values(
    benches: Json,
) -> tuple[Json, dict[str, str]]:
    """The keys of the top level that benches fill, and a reason for each null.

    Those of Stage 3 only where one of its own benches was asked for.
    """
    values: Json = {}
    reasons: dict[str, str] = {}
    stage3 = not benches.keys().isdisjoint(STAGE3_KEYS.keys() - SPEC_KEYS.keys())
    for keys_of in (SPEC_KEYS, STAGE3_KEYS if stage3 else {}):
        for bench, keys in keys_of.items():
            for key in keys:
                if values.get(key) is None:
                    values[key], reason = _top_value(bench, benches.get(bench), key)
                    reasons.setdefault(key, reason)
    return values, {key: reasons[key] for key, value in values.items() if value is None}


def _top_value(bench: str, entry: Json | None, key: str) -> tuple[Any, str]:
    """A key of the top level that a bench fills, and the reason if it is null.

    `entry` is what results.json says of the bench; None where it was not asked for.
    """
    if entry is None:
        return None, f"bench {bench} was not asked for"
    if entry["status"] == "failed":
        return None, "bench {} failed: {type}: {message}".format(bench, **entry["error"])
    if entry["status"] != "ok":
        return None, f"bench {bench} has not {'run' if entry['status'] == 'pending' else 'ended'}"
    gates, none = entry["gates"], f"bench {bench} did not report it"
    if key == f"{bench}_pass":
        passed = [gate["passed"] for gate in gates]
        value = False if False in passed else None if None in passed or not passed else True
        reasons = [f"{gate['name']}: {gate['reason']}" for gate in gates if gate["passed"] is None]
        return value, "; ".join(reasons) or f"bench {bench} has no gate"
    if key == "ppl_target":
        limits = {gate["name"]: gate.get("limit") for gate in gates}
        return limits.get("ppl_ratio"), none
    metric = entry["metrics"].get(key, {})
    return metric.get("value"), metric.get("reason") or none
