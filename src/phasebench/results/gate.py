"""What a bench hands back, and what becomes of it in results.json: values with units, gates, the verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from phasebench.results.jsonfile import plain

Kind = Literal["measured", "predicted", "counted"]
# the top-level keys that each bench fills; `<bench>_pass` is never taken from the bench, but from its gates
SEED_KEYS: dict[str, tuple[str, ...]] = {
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


AT_LEAST = ", at least"  # in the unit of a lower bound, with the reason after it


@dataclass(frozen=True)
class Metric:
    """A value with its unit. Raises ValueError where a null has no reason or the kind is unknown."""

    value: float | int | str | bool | None
    unit: str
    kind: Kind = "measured"
    reason: str | None = None  # why the value is null

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r}; choices: {', '.join(get_args(Kind))}")
        if self.value is None and not self.reason:
            raise ValueError("a metric without a value needs a reason")

    @property
    def is_bound(self) -> bool:
        """Whether the value is a lower bound only: memory ran out, or a search ended."""
        return AT_LEAST in self.unit

    @property
    def plain_unit(self) -> str:
        """The unit, whether or not the value is a bound."""
        return self.unit.partition(AT_LEAST)[0]


@dataclass(frozen=True)
class Gate:
    """A quantity against its target. Raises ValueError where a gate that was not measured has no reason.

    `name` should be the key of the metric that is judged: its unit is shown beside the value.
    """

    name: str
    passed: bool | None  # None: could not be measured
    value: float | None
    target: str  # for people: "<= 1.02"
    reason: str | None = None
    kind: Literal["measured", "predicted"] = "measured"

    def __post_init__(self) -> None:
        if self.kind not in ("measured", "predicted"):
            raise ValueError(f"gate {self.name}: kind {self.kind!r}; choices: measured, predicted")
        if self.passed is None and not self.reason:
            raise ValueError(f"gate {self.name} was not measured and needs a reason")


@dataclass
class BenchResult:
    """What a bench hands back: metrics by key, gates, raw samples, the specification's keys and what the reader should know."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    top: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def exit_code(results: Mapping[str, Any]) -> int:
    """The exit code of a run, from the content of its results.json: see `ResultsFile.exit_code`.

    A bench with a verdict of its own (those of the specification) that brings no gate at all was not measured.
    """
    benches = results["benches"]
    gates = [gate for entry in benches.values() for gate in entry["gates"]]
    unjudged = any(
        entry["status"] != "ok" or (name in SEED_KEYS and not entry["gates"])
        for name, entry in benches.items()
    )
    if not benches or unjudged or any(gate["passed"] is None for gate in gates):
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
    return entry("ok") | {
        "metrics": {key: _judged(metric, "value") for key, metric in result.metrics.items()},
        "gates": [_judged(gate, "value", "passed") for gate in result.gates],
        "details": details,
        "notices": notices,
        "duration_s": duration_s,
    }


def _judged(item: Metric | Gate, *nulled: str) -> dict[str, Any]:
    """A metric or gate as plain values; one whose number is not finite loses it, and a gate its verdict too."""
    lost: dict[str, str] = {}
    found = plain({f.name: getattr(item, f.name) for f in dataclasses.fields(item)}, "", lost)
    if "value" in lost:
        found |= dict.fromkeys(nulled) | {"reason": lost["value"]}
    return found


def _verdict(gates: Sequence[Mapping[str, Any]]) -> bool | None:
    passed = [gate["passed"] for gate in gates]
    if False in passed:
        return False
    return None if None in passed or not passed else True


def spec_values(
    bench: str, result: BenchResult, entry: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The specification's keys of a finished bench, and a reason for each null. The verdict is that of the gates, always.

    Raises ValueError for a key that is not the bench's.
    """
    unknown = set(result.top) - set(SEED_KEYS.get(bench, ()))
    if unknown:
        raise ValueError(
            f"bench {bench} fills {', '.join(sorted(unknown))}; its keys: {SEED_KEYS.get(bench, ())}"
        )
    top: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for key in SEED_KEYS.get(bench, ()):
        top[key] = plain(result.top.get(key), key, reasons)
        if top[key] is None and key not in reasons:
            reasons[key] = (
                entry["metrics"].get(key, {}).get("reason") or f"bench {bench} did not report it"
            )
    if top:
        top[f"{bench}_pass"] = _verdict(entry["gates"])
        unmeasured = [
            f"{gate['name']}: {gate['reason']}" for gate in entry["gates"] if gate["passed"] is None
        ]
        reasons[f"{bench}_pass"] = "; ".join(unmeasured) or f"bench {bench} has no gate"
    return top, {key: reason for key, reason in reasons.items() if top[key] is None}
