"""Collect what trackers log of a results.json: parameters, metrics and gates, as flat names and
scalars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasebench.report.axes import flatten

Scalar = int | float | str | bool


@dataclass(frozen=True)
class Facts:
    """A run in the terms that every tracker has."""

    name: str  # of the run: its folder's
    group: str  # of runs: the sweep's folder, or the benchmark's name
    parameters: dict[str, Scalar]  # the configuration, by dotted key, without nulls
    metrics: dict[str, float]  # bench.metric; a predicted one ends in .predicted
    gates: dict[str, float]  # bench.gate.passed: 1 or 0; one that was not measured is left out
    tags: dict[str, str]  # status, commit, device, data


def facts(results: Mapping[str, Any], folder: Path) -> Facts:
    """Collect the facts of a results.json's content.

    >>> bench = {"metrics": {"ppl": {"value": 65.7, "kind": "measured"}}, "gates": []}
    >>> results = {"config": {"model": {"dim": 8}}, "benches": {"ppl": bench}, "status": "ok",
    ...            "device": "cpu", "environment": {}, "data": None, "benchmark_name": "x",
    ...            "all_pass": True}
    >>> facts(results, Path("outputs/here")).metrics
    {'ppl.ppl': 65.7}
    """
    metrics: dict[str, float] = {}
    gates: dict[str, float] = {}
    for name, bench in results["benches"].items():
        for key, metric in bench["metrics"].items():
            if isinstance(metric["value"], int | float):
                kind = ".predicted" if metric["kind"] == "predicted" else ""
                metrics[f"{name}.{key}{kind}"] = float(metric["value"])
        for gate in bench["gates"]:
            if gate["passed"] is not None:
                gates[f"{name}.{gate['name']}.passed"] = float(gate["passed"])
    tags = {
        "status": results["status"],
        "all_pass": results["all_pass"],
        "device": results["device"],
        "commit": (results["environment"].get("git") or {}).get("commit"),
        "data": (results["data"] or {}).get("name"),
    }
    return Facts(
        name=folder.name,
        group=folder.parent.name if "point" in results else results["benchmark_name"],
        parameters={key: v for key, v in flatten(results["config"]).items() if v != "null"},
        metrics=metrics,
        gates=gates,
        tags={key: str(value) for key, value in tags.items() if value is not None},
    )
