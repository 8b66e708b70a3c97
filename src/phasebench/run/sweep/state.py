"""Where a point of a sweep stands, read from its folder alone."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from phasebench.config import ConfigError, RunOptions
from phasebench.report.read import Broken, verified
from phasebench.results.gate import exit_code, unmet
from phasebench.results.jsonfile import Json, dumps
from phasebench.run.sweep.point import Point

Status = Literal["ok", "failed", "killed", "timeout", "oom", "not comparable", "missing"]
# of an error that ended a bench: its type -> the point's status
ENDINGS: dict[str, Status] = {
    "Killed": "killed",
    "TimedOut": "timeout",
    "OutOfMemoryError": "oom",
    "MemoryError": "oom",
}
UNFINISHED = "did not end"  # reason of a point whose job was cut short
_NO_HOST_MEMORY = ("can't allocate memory", "not enough memory")  # what torch's RuntimeError says


@dataclass(frozen=True)
class State:
    """Where a point stands.

    Attributes:
        reason: where not all is well.
        exit_code: where it has one.
        text: of a point that ended well: the text asked for, and the fingerprint of the one used.
    """

    status: Status
    reason: str | None = None
    exit_code: int | None = None
    text: tuple[str, str] | None = None


def state(folder: Path, point: Point, gpus: Set[str] = frozenset()) -> State:
    """Read a point's state from the results.json of its folder.

    It is `missing` unless that is whole, ended, and of this configuration, code and data.

    Where `gpus` names any, a result that was measured on another is missing too.
    """
    if isinstance(point.config, ConfigError):
        return State("failed", str(point.config), 2)
    if not (folder / "results.json").exists():
        return State("missing", "no results yet")
    try:
        results, *_ = verified(folder / "results.json")
    except Broken as error:  # truncated, foreign or edited by hand
        return State("missing", f"its results.json cannot be used: {error.reason}")
    if "point" not in results:
        return State("missing", "its results.json is not of a sweep")
    then, now = results["point"]["identity"], point.identity
    changed = [key for key in {**now, **then} if then.get(key) != now.get(key)]
    gpu = (results["environment"].get("gpu") or {}).get("name")
    if gpus and gpu and gpu not in gpus:
        changed.append("GPU")
    if changed:
        return State("missing", f"changed: {', '.join(changed)}")
    found = ended(results)
    if found.status == "ok" and results["data"]:
        found = replace(
            found, text=(dumps(point.tree["data"]), str(results["data"]["fingerprint"]))
        )
    return found


def ended(results: Json) -> State:
    """Read the state from a results.json."""
    if results["status"] == "running":
        return State("missing", UNFINISHED)
    code, benches = exit_code(results), results["benches"]
    if results["status"] == "ok":
        said = zip(("gate failed", "not measured"), unmet(benches), strict=True)
        reasons = [f"{how}: {', '.join(names)}" for how, names in said if names]
        return State("ok", "; ".join(reasons) or None, code)
    errors = {name: bench["error"] for name, bench in benches.items() if bench["error"]}
    if not errors:
        return State("failed", "no benchmark says why", code)
    endings: list[Status] = [
        ending for ending in map(_ending, errors.values()) if ending != "failed"
    ]
    name, error = next(iter(errors.items()))
    reason = f"{name}: {error['type']}: {error['message'].partition(chr(10))[0]}"
    return State(endings[0] if endings else "failed", reason, code)


def _ending(error: Json) -> Status:
    if any(words in error["message"] for words in _NO_HOST_MEMORY):
        return "oom"
    return ENDINGS.get(error["type"], "failed")


def why_run(found: State, how: RunOptions) -> str:
    """Say why a point in that state is to be run; an empty string leaves it as it is."""
    if found.status == "missing":
        return found.reason or "missing"
    if how.rerun:
        return "rerun=true"
    return f"{found.status} last time" if how.retry_failed and found.status != "ok" else ""
