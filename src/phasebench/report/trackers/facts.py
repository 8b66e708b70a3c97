"""What trackers log of a results.json: parameters, metrics and gates, as flat names and scalars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Scalar = int | float | str | bool


@dataclass(frozen=True)
class Facts:
    """A run in the terms that every tracker has."""

    name: str  # of the run: its folder's
    group: str  # of runs: the sweep's folder, or the benchmark's name
    parameters: dict[str, Scalar]  # the configuration, by dotted key
    metrics: dict[str, float]  # bench.metric; a predicted one ends in .predicted
    gates: dict[
        str, float
    ]  # bench.gate.passed: 1 passed, 0 failed; one that was not measured is left out
    tags: dict[str, str]  # status, commit, device, data


def facts(results: Mapping[str, Any], folder: Path) -> Facts:
    """The facts of a results.json's content.

    >>> bench = {"metrics": {"ppl": {"value": 65.7, "kind": "measured"}}, "gates": []}
    >>> found = {"config": {"model": {"dim": 8}}, "benches": {"ppl": bench}, "status": "ok", "device": "cpu",
    ...          "environment": {}, "data": None, "benchmark_name": "x", "all_pass": True}
    >>> facts(found, Path("outputs/here")).metrics
    {'ppl.ppl': 65.7}
    """
    benches = results["benches"]
    return Facts(
        name=folder.name,
        group=folder.parent.name if "point" in results else results["benchmark_name"],
        parameters={key: value for key, value in _flat(results["config"], "") if value is not None},
        metrics=dict(_metrics(benches)),
        gates={
            f"{name}.{gate['name']}.passed": float(gate["passed"])
            for name, bench in benches.items()
            for gate in bench["gates"]
            if gate["passed"] is not None
        },
        tags=_tags(results),
    )


def _metrics(benches: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, bench in benches.items():
        for key, metric in bench["metrics"].items():
            if isinstance(metric["value"], int | float):
                yield (
                    f"{name}.{key}" + (".predicted" if metric["kind"] == "predicted" else ""),
                    float(metric["value"]),
                )


def _tags(results: Mapping[str, Any]) -> dict[str, str]:
    told = {
        "status": results["status"],
        "all_pass": results["all_pass"],
        "device": results["device"],
        "commit": (results["environment"].get("git") or {}).get("commit"),
        "data": (results["data"] or {}).get("name"),
    }
    return {key: str(value) for key, value in told.items() if value is not None}


def _flat(value: Any, at: str) -> Iterator[tuple[str, Scalar | None]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{at}.{key}" if at else str(key))
    else:
        yield at, str(value) if isinstance(value, list) else value
