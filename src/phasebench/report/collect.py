"""What a folder holds: every results.json below it, and the points that a sweep.json lists beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phasebench.report.read import Bench, Broken, Run, read
from phasebench.results.gate import Metric

RESULTS, SWEEP = "results.json", "sweep.json"
_VERDICTS = {0: "pass", 1: "fail", 2: "not measured"}


@dataclass(frozen=True)
class Point:
    """One point of a sweep, or one run.

    Attributes:
        name: its folder, relative to the folder asked for.
        run: None where there is no results.json, or one that cannot be used.
        status: pass, fail, not measured; or how it ended: failed, killed, timeout, oom, missing, broken, ...
        reason: why nothing, or not everything, was measured.
    """

    name: str
    run: Run | None
    overrides: tuple[str, ...]
    status: str
    reason: str | None = None

    def bench(self, name: str) -> Bench | None:
        """A benchmark's entry; None if it was not asked for, or there is no run."""
        return self.run.benches.get(name) if self.run else None

    def metric(self, bench: str, name: str) -> Metric | None:
        """A metric of a benchmark; None if it did not report it."""
        found = self.bench(bench)
        return found.metrics.get(name) if found else None


@dataclass
class Collection:
    """The points of one or more folders, the files that cannot be used, and what else the reader should know."""

    points: list[Point] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(places: Sequence[Path], results: Iterable[Path] | None = None) -> Collection:
    """Read every results.json below the places (folders, or files), or just `results`, and every sweep.json.

    A file that is found twice, or is a copy of another, counts once. Names are relative to the first folder.
    """
    found = Collection()
    root = places[0] if places[0].is_dir() else places[0].parent
    files = list(results) if results is not None else list(_below(places, RESULTS))
    runs, bad = _read(files, found)
    listed = list(_listed([place for place in places if place.is_dir()], found))
    for folder, entry in listed:
        found.points.append(
            _swept(_name(folder, root), entry, runs.pop(folder, None), bad.pop(folder, None))
        )
    found.points += [_alone(_name(folder, root), run) for folder, run in runs.items()]
    return found


def _below(places: Sequence[Path], name: str) -> Iterator[Path]:
    """Files of that name, in the order of their folders' numbers; links are not followed."""
    for place in places:
        if place.is_file() and name == RESULTS:
            yield place
        for folder, folders, files in os.walk(place):
            folders.sort(
                key=lambda text: (not text.isdecimal(), int(text) if text.isdecimal() else 0, text)
            )
            if name in files:
                yield Path(folder) / name


def _read(files: Iterable[Path], found: Collection) -> tuple[dict[Path, Run], dict[Path, Broken]]:
    """Runs, and files that are none, by their folder."""
    runs: dict[Path, Run] = {}
    bad: dict[Path, Broken] = {}
    digests: dict[str, Path] = {}
    for path in dict.fromkeys(Path(os.path.realpath(file)) for file in files):
        try:
            run = read(path)
        except Broken as broken:
            found.broken.append(broken)
            bad[path.parent] = broken
            continue
        if run.digest in digests:
            found.notes.append(f"{path} is a copy of {digests[run.digest]}, and left out")
            continue
        digests[run.digest] = path
        runs[path.parent if path.name == RESULTS else path] = run
    return runs, bad


def _listed(folders: Sequence[Path], found: Collection) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The points of every sweep.json, with the folder of each."""
    for path in dict.fromkeys(Path(os.path.realpath(file)) for file in _below(folders, SWEEP)):
        try:
            points = json.loads(path.read_bytes())["points"]
            yield from [
                (Path(os.path.realpath(path.parent / p["folder"])), _entry(p)) for p in points
            ]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            found.broken.append(
                Broken(path, f"not a sweep.json of phasebench: {type(error).__name__}: {error}")
            )


def _entry(point: dict[str, Any]) -> dict[str, Any]:
    overrides, reason = point.get("overrides", []), point.get("reason")
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise TypeError("overrides of a point are not a list of texts")
    reason = None if reason is None else str(reason)
    code = point.get("exit_code")
    if reason is None and code not in (None, 0, 1, 2):
        reason = f"exit code {code}"
    return {"overrides": tuple(overrides), "status": str(point["status"]), "reason": reason}


def _swept(name: str, entry: dict[str, Any], run: Run | None, broken: Broken | None) -> Point:
    if run is not None and entry["status"] == "ok":
        return _alone(name, run)
    status, reasons = entry["status"], [entry["reason"]]
    if broken is not None:
        status, reasons = "broken", [*reasons, broken.reason]
    elif run is None and status == "ok":
        status, reasons = "missing", ["sweep.json says ok, but there is no results.json"]
    elif run is not None:
        reasons.append(_reason(run))
    return Point(
        name,
        run,
        run.overrides if run else entry["overrides"],
        status,
        "; ".join(filter(None, reasons)) or None,
    )


def _alone(name: str, run: Run) -> Point:
    status = _VERDICTS[run.verdict] if run.status != "running" else "not ended"
    return Point(name, run, run.overrides, status, _reason(run))


def _reason(run: Run) -> str | None:
    """Why something was not measured."""
    reasons = ["the run goes on, or was killed"] if run.status == "running" else []
    for name, bench in run.benches.items():
        if bench.error:
            reasons.append(f"{name}: {bench.error}")
        reasons += [
            f"{name} {gate.name}: {gate.reason}"
            for gate in bench.gates.values()
            if gate.passed is None
        ]
    return "; ".join(reasons) or None


def _name(folder: Path, root: Path) -> str:
    return os.path.relpath(folder, os.path.realpath(root))
