"""Collect what folders hold: every results.json below them, and the points of every sweep.json."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from phasebench.config import ConfigError
from phasebench.report.read import Bench, Broken, Run, content, read, read_bytes
from phasebench.report.text import number
from phasebench.results.gate import Metric
from phasebench.results.jsonfile import Json

RESULTS, SWEEP = "results.json", "sweep.json"
Read = TypeVar("Read")
_VERDICTS = {0: "pass", 1: "fail", 2: "not measured"}


@dataclass(frozen=True)
class Point:
    """One point of a sweep, or one run.

    Attributes:
        name: its folder, relative to the folder asked for.
        run: None where there is no results.json, or one that cannot be used.
        status: pass, fail, not measured; or how it ended: failed, killed, timeout, oom, missing,
            broken, ...
        reason: why a gate failed, or nothing, or not everything, was measured.
    """

    name: str
    run: Run | None
    overrides: tuple[str, ...]
    status: str
    reason: str | None = None

    @property
    def benches(self) -> dict[str, Bench]:
        """List what was asked for, by the bench's name; nothing where there is no run."""
        return self.run.benches if self.run else {}

    def metric(self, bench: str, name: str) -> Metric | None:
        """Return a metric of a benchmark; None if it did not report it."""
        entry = self.benches.get(bench)
        return entry.metrics.get(name) if entry else None

    def details(self, bench: str) -> Json:
        """Read a benchmark's raw samples from its file; nothing where it was not asked for.

        They are not kept, since those of all points together would not fit into memory.
        """
        if self.run is None or bench not in self.benches:
            return {}
        return content(self.run.path)[0]["benches"][bench]["details"]


@dataclass
class Collection:
    """The points of folders, the files that cannot be used, and what else should be known."""

    points: list[Point] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def collect(places: Sequence[Path], results: Iterable[Path] | None = None) -> Collection:
    """Read every results.json below the places (or just `results`), and every sweep.json.

    A file that is named twice, or is a copy of another, counts once. Names are relative to the
    first folder. Raises `ConfigError` for a place that is not there, unless `results` are given.
    """
    collection = Collection()
    root = os.path.realpath(places[0] if places[0].is_dir() else places[0].parent)
    runs: dict[Path, Run] = {}
    digests: dict[str, Path] = {}
    files = _below(places, RESULTS) if results is None else results
    for path, run in _usable(files, read, collection):
        first = digests.setdefault(run.digest, path)
        if first == path:
            runs[path.parent if path.name == RESULTS else path] = run
        else:
            collection.notes.append(f"{path} is a copy of {first}, and left out")
    sweeps = _below([place for place in places if place.is_dir()], SWEEP)
    reasons = {broken.path.parent: broken.reason for broken in collection.broken}
    for path, entries in _usable(sweeps, _points, collection):
        for entry in entries:
            folder = Path(os.path.realpath(path.parent / entry["folder"]))
            name, run = os.path.relpath(folder, root), runs.pop(folder, None)
            collection.points.append(_point(name, entry, run, reasons.pop(folder, None)))
    for folder, run in runs.items():
        name = os.path.relpath(folder, root)
        collection.points.append(_point(name, {"status": "ok"}, run))
    return collection


def _usable(
    files: Iterable[Path], reader: Callable[[Path], Read], collection: Collection
) -> Iterator[tuple[Path, Read]]:
    """Read each file once; `collection` gets those that cannot be used."""
    for path in dict.fromkeys(Path(os.path.realpath(file)) for file in files):
        try:
            yield path, reader(path)
        except Broken as broken:
            collection.broken.append(broken)


def _below(places: Sequence[Path], name: str) -> list[Path]:
    """Find the files of that name in the order of their folders' numbers; links are not followed.

    A place that is a file is taken as it is. Raises `ConfigError` for one that is not there.
    """

    def order(path: Path) -> list[str]:
        return [part.zfill(9) if part.isdecimal() else part for part in path.parent.parts]

    found = []
    for place in places:
        if not place.exists():
            what = f"{place}: there is no such file or folder"
            raise ConfigError("", "", what, "name a results.json, or a folder with some")
        found += sorted(place.rglob(name), key=order) if place.is_dir() else [place]
    return found


def _points(path: Path) -> list[Json]:
    """Read the points that a sweep.json lists. Raises `Broken`."""
    import jsonschema
    from jsonschema.exceptions import best_match

    raw = read_bytes(path)
    try:
        sweep = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Broken(path, f"not a sweep.json of phasebench: {error}") from error
    schema = json.loads(Path(__file__).with_name("sweep.schema.json").read_text(encoding="utf-8"))
    error = best_match(jsonschema.Draft202012Validator(schema).iter_errors(sweep))
    if error is not None:
        raise Broken(path, f"not as phasebench writes it (edited by hand?): {error.message[:200]}")
    return sweep["points"]


def _point(name: str, entry: Json, run: Run | None, broken: str | None = None) -> Point:
    """Say how a point ended, from its entry in sweep.json and its results.json."""
    status, reason, code = entry["status"], entry.get("reason"), entry.get("exit_code")
    if reason is None and code not in (None, 0, 1, 2):
        reason = f"exit code {code}"
    reasons = [reason]
    if broken is not None:
        status, reasons = "broken", [reason, broken]
    elif run is None and status == "ok":
        status, reasons = "missing", ["sweep.json says ok, but there is no results.json"]
    elif run is not None:
        reasons = [None if status == "ok" else reason, _reasons(run)]
        if status == "ok":
            status = "not ended" if run.status == "running" else _VERDICTS[run.verdict]
    overrides = run.overrides if run else tuple(entry.get("overrides", ()))
    return Point(name, run, overrides, status, "; ".join(filter(None, reasons)) or None)


def _reasons(run: Run) -> str | None:
    """Say which gates failed, and why something was not measured."""
    reasons = ["the run goes on, or was killed"] if run.status == "running" else []
    for name, bench in run.benches.items():
        if bench.error:
            reasons.append(f"{name}: {bench.error}")
        for gate in bench.gates.values():
            if gate.passed is None:
                reasons.append(f"{name} {gate.name}: {gate.reason}")
            elif not gate.passed:
                reasons.append(f"{name} {gate.name}: {number(gate.value)}, not {gate.target}")
    if run.verdict == 2 and not reasons:
        reasons = ["no gate was asked for: nothing is judged"]
    return "; ".join(reasons) or None
