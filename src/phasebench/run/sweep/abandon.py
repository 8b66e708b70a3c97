"""Ends the results.json of a job that could not end it itself: killed, out of time, or dead before its first line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from phasebench.config import to_config
from phasebench.results.file import ResultsFile, load
from phasebench.results.gate import SEED_KEYS, exit_code, failed
from phasebench.results.jsonfile import dumps, write_atomic
from phasebench.run.sweep.point import Point

RESULTS = "results.json"


def abandon(folder: Path, point: Point, kind: str, message: str) -> None:
    """Record that the job of a valid point ended by an error of this kind (see `phasebench.run.sweep.state.ENDINGS`).

    What it had measured stays, and so does a results.json of this job that has ended.
    Raises OSError or `ConfigError` where nothing can be written.
    """
    path = folder / RESULTS
    if not _of(path, point):
        _start(path, point)
    found = load(path)
    if found["status"] == "running":
        write_atomic(path, dumps(_ended(found, kind, message)) + "\n")


def _of(path: Path, point: Point) -> bool:
    try:
        return load(path)["point"]["identity"] == point.identity
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _start(path: Path, point: Point) -> None:
    """A results.json in which every bench is still to come."""
    config = to_config(point.tree)
    ResultsFile(
        path,
        benchmark_name=config.benchmark_name,
        device=config.device,
        seed=config.seed,
        config=config.recorded(),
        overrides=point.overrides,
        environment={"null_reasons": {"environment": "the job ended before it was known"}},
        conditions=[],
        benches=list(config.bench),
        point=point.facts(),
    )


def _ended(found: dict[str, Any], kind: str, message: str) -> dict[str, Any]:
    reasons: dict[str, str] = found["null_reasons"]
    for name, bench in found["benches"].items():
        if bench["status"] in ("pending", "running"):
            found["benches"][name] = failed(kind, message, None, None)
            reasons |= dict.fromkeys(
                SEED_KEYS.get(name, ()), f"bench {name} failed: {kind}: {message}"
            )
    reasons.pop("all_pass", None)
    whole = all(bench["status"] == "ok" for bench in found["benches"].values())
    return found | {"status": "ok" if whole else "failed", "all_pass": exit_code(found) == 0}
