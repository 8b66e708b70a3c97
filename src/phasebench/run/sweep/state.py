"""Where a point of a sweep stands, read from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from phasebench.config import ConfigError
from phasebench.results.file import load
from phasebench.results.gate import exit_code
from phasebench.run.sweep.point import Point

Status = Literal["ok", "failed", "killed", "timeout", "oom", "not comparable", "missing"]
# of an error that ended a bench: its type -> the point's status
ENDINGS: dict[str, Status] = {
    "Killed": "killed",
    "TimedOut": "timeout",
    "OutOfMemoryError": "oom",
    "MemoryError": "oom",
}
_NO_HOST_MEMORY = ("can't allocate memory", "not enough memory")  # what torch's RuntimeError says


@dataclass(frozen=True)
class State:
    """A point's status, the reason where not all is well, and its exit code where it has one."""

    status: Status
    reason: str | None = None
    exit_code: int | None = None


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
        results = load(folder / "results.json")
        if "point" not in results:
            return State("missing", "its results.json is not of a sweep")
        changed = _changed(results, point, gpus)
        return State("missing", f"changed: {', '.join(changed)}") if changed else ended(results)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:  # truncated, foreign or edited by hand
        return State(
            "missing", f"its results.json cannot be used: {str(error) or type(error).__name__}"
        )


def _changed(results: Mapping[str, Any], point: Point, gpus: Set[str]) -> list[str]:
    """Name what the result depends on and is not as it was."""
    then, now = results["point"]["identity"], point.identity
    changed = [key for key in {**now, **then} if then.get(key) != now.get(key)]
    gpu = (results["environment"].get("gpu") or {}).get("name")
    return [*changed, "GPU"] if gpus and gpu and gpu not in gpus else changed


def ended(results: Mapping[str, Any]) -> State:
    """Read the state from a results.json. Raises KeyError, TypeError, AttributeError."""
    if results["status"] == "running":
        return State("missing", "did not end")
    code = exit_code(results)
    if results["status"] == "ok":
        return State("ok", _missed(results), code)
    errors = {name: bench["error"] for name, bench in results["benches"].items() if bench["error"]}
    if not errors:
        return State("failed", "no benchmark says why", code)
    name, error = next(iter(errors.items()))
    special: list[Status] = [
        ending for ending in map(_ending, errors.values()) if ending != "failed"
    ]
    reason = f"{name}: {error['type']}: {error['message'].partition(chr(10))[0]}"
    return State(special[0] if special else "failed", reason, code)


def _missed(results: Mapping[str, Any]) -> str | None:
    """Name the gates that failed, or could not be judged."""
    gates = [
        (f"{name} {gate['name']}", gate["passed"])
        for name, b in results["benches"].items()
        for gate in b["gates"]
    ]
    words = {False: "gate failed", None: "not measured"}
    said = [
        f"{how}: {', '.join(found)}"
        for passed, how in words.items()
        if (found := [name for name, verdict in gates if verdict is passed])
    ]
    return "; ".join(said) or None


def _ending(error: Mapping[str, Any]) -> Status:
    if any(words in error["message"] for words in _NO_HOST_MEMORY):
        return "oom"
    return ENDINGS.get(error["type"], "failed")


def why_run(found: State, *, retry_failed: bool, rerun: bool) -> str:
    """Say why a point in that state is to be run; an empty string leaves it as it is."""
    if found.status == "missing":
        return found.reason or "missing"
    if rerun:
        return "rerun=true"
    return f"{found.status} last time" if retry_failed and found.status != "ok" else ""
