"""One results.json as report and comparison use it: typed, checked for edits by hand, without its raw samples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phasebench.report.derived import derived
from phasebench.results.file import config_hash, parse
from phasebench.results.gate import SEED_KEYS, Gate, Metric, exit_code

GREATEST = 1e100  # number that is believed: its square, of which a variance is made, is a float too
LARGEST = 256 * 2**20  # bytes of a results.json; the largest real ones have 1 MB


class Broken(ValueError):
    """A file that cannot be used, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True)
class Bench:
    """What one bench measured, with a few figures derived from its details (`phasebench.report.derived`)."""

    status: str  # pending running ok failed
    metrics: dict[str, Metric]
    gates: dict[str, Gate]
    notices: list[str] = field(default_factory=list)
    error: str | None = None  # type and message


@dataclass(frozen=True)
class Run:
    """One results.json.

    Attributes:
        digest: SHA-256 (hex) of the file.
        data: fingerprint of the text in use, None where none was.
        device: name of the GPU, or of the CPU where none was used.
        weights: file names of the weights whose training history the file has; of a model's seeds, the first one's.
        side_by_side: jobs of its sweep that may have run at one time on its machine.
    """

    path: Path
    digest: str
    timestamp: str
    status: str  # running ok failed
    seed: int
    overrides: tuple[str, ...]
    config: dict[str, Any]
    data: str | None
    device: str
    environment: dict[str, Any]
    benches: dict[str, Bench]
    weights: tuple[str, ...]
    side_by_side: int = 1

    @property
    def verdict(self) -> int:
        """The exit code of the run: 0 every gate passed, 1 one failed, 2 something was not measured."""
        gates = {
            name: [vars(gate) for gate in bench.gates.values()]
            for name, bench in self.benches.items()
        }
        return exit_code(
            {
                "benches": {
                    n: {"status": b.status, "gates": gates[n]} for n, b in self.benches.items()
                }
            }
        )


def read(path: Path) -> Run:
    """Read and check a results.json. Raises `Broken`."""
    found, digest = content(path)
    try:
        return _run(path, digest, found)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise Broken(path, f"not as phasebench writes it (edited by hand?): {what}") from error


def content(path: Path) -> tuple[dict[str, Any], str]:
    """All of a results.json, raw samples too, and the digest of the file. Raises `Broken`."""
    try:
        if path.stat().st_size > LARGEST:
            raise Broken(path, f"larger than {LARGEST // 2**20} MiB: not a results.json")
        raw = path.read_bytes()
    except OSError as error:
        raise Broken(path, f"cannot be read: {error.strerror or error}") from error
    try:
        return parse(raw, path), hashlib.sha256(raw).hexdigest()
    except ValueError as error:
        raise Broken(path, str(error).removeprefix(f"{path}: ")) from error


def _run(path: Path, digest: str, found: Mapping[str, Any]) -> Run:
    benches = {
        name: _bench(f"benches.{name}", entry)
        for name, entry in _is(found["benches"], dict, "benches").items()
    }
    config = _is(found["config"], dict, "config")
    environment = _is(found["environment"], dict, "environment")
    run = Run(
        path,
        digest,
        _is(found["timestamp"], str, "timestamp"),
        _is(found["status"], str, "status"),
        _is(found["seed"], int, "seed"),
        tuple(_texts(found["overrides"], "overrides")),
        config,
        _fingerprint(found),
        _device(found, environment),
        environment,
        benches,
        _weights(found["benches"]),
        _side_by_side(found),
    )
    _unedited(found, run)
    for name, bench in benches.items():
        more = derived(name, found["benches"][name], config)
        for key, metric in more.items():
            _number(metric.value, f"benches.{name}: {key}")
        bench.metrics.update(more)
    return run


def _bench(at: str, entry: Any) -> Bench:
    _is(entry, dict, at)
    metrics = {
        key: _metric(f"{at}.metrics.{key}", m) for key, m in _is(entry["metrics"], dict, at).items()
    }
    gates = [
        _gate(f"{at}.gates[{i}]", gate)
        for i, gate in enumerate(_is(entry["gates"], list, f"{at}.gates"))
    ]
    error = (
        None if entry["error"] is None else f"{entry['error']['type']}: {entry['error']['message']}"
    )
    status, notices = (
        _is(entry["status"], str, f"{at}.status"),
        _texts(entry["notices"], f"{at}.notices"),
    )
    return Bench(status, metrics, {gate.name: gate for gate in gates}, notices, error)


def _metric(at: str, entry: Any) -> Metric:
    _is(entry, dict, at)
    if not isinstance(entry["value"], str):
        _number(entry["value"], f"{at}.value")
    unit, reason = (
        _is(entry["unit"], str, f"{at}.unit"),
        _is(entry["reason"], (str, type(None)), f"{at}.reason"),
    )
    return Metric(entry["value"], unit, entry["kind"], reason)


def _gate(at: str, entry: Any) -> Gate:
    _is(entry, dict, at)
    _is(entry["passed"], (bool, type(None)), f"{at}.passed")
    _number(entry["value"], f"{at}.value")
    name, target = _is(entry["name"], str, f"{at}.name"), _is(entry["target"], str, f"{at}.target")
    reason = _is(entry["reason"], (str, type(None)), f"{at}.reason")
    return Gate(name, entry["passed"], entry["value"], target, reason, entry["kind"])


def _is(value: Any, kind: Any, at: str) -> Any:
    """`value`, if it is of that type. Raises TypeError with its place."""
    if isinstance(value, bool) and kind is int:
        kind = str  # true is no whole number
    if not isinstance(value, kind):
        raise TypeError(f"{at} is {str(value)[:40]!r}")
    return value


def _number(value: Any, at: str) -> Any:
    """A number that something measured can be, or null. JSON allows 1e999, which Python reads as infinity."""
    _is(value, (int, float, type(None)), at)
    if value is not None and not abs(value) <= GREATEST:
        raise ValueError(f"{at} is larger than {GREATEST:g}: no measurement")
    return value


def _texts(value: Any, at: str) -> list[str]:
    return [_is(text, str, f"{at}[{i}]") for i, text in enumerate(_is(value, list, at))]


def _fingerprint(found: Mapping[str, Any]) -> str | None:
    return (
        None
        if found["data"] is None
        else _is(found["data"]["fingerprint"], str, "data.fingerprint")
    )


def _device(found: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    gpu = environment.get("gpu")
    if gpu is not None:
        return _is(gpu["name"], str, "environment.gpu.name")
    return str(environment.get("cpu") or found["device"])


def _weights(benches: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found[0]["file"] for found in histories(benches)))


def _side_by_side(found: Mapping[str, Any]) -> int:
    """Of a run that is no point of a sweep: 1."""
    point = _is(found.get("point", {}), dict, "point")
    return _is(point.get("side_by_side", 1), int, "point.side_by_side")


def histories(benches: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The weights that benches name together with their training history; those of one model's seeds are one set.

    A bench that uses some of another's weights adds no set.
    """
    sets = []
    for entry in benches.values():
        details = entry["details"]
        for holder in (details, *(d for d in details.values() if isinstance(d, dict))):
            rows = holder.get("seeds")
            of_seeds = (
                [row.get("weights") for row in rows if isinstance(row, dict)]
                if isinstance(rows, list)
                else []
            )
            sets.append([w for w in of_seeds or [holder.get("weights")] if _has_history(w)])
    files = [{w["file"] for w in found} for found in sets]
    return [
        found
        for i, found in enumerate(sets)
        if found
        and not any(
            files[i] < other or (files[i] == other and j < i) for j, other in enumerate(files)
        )
    ]


def _has_history(weights: Any) -> bool:
    return (
        isinstance(weights, dict)
        and bool(weights.get("steps"))
        and isinstance(weights.get("file"), str)
    )


def _unedited(found: Mapping[str, Any], run: Run) -> None:
    """Raise ValueError where two places that phasebench writes together disagree."""
    if config_hash(run.config) != found["config_hash"]:
        raise ValueError("config_hash is not the hash of config")
    for name, keys in SEED_KEYS.items():
        for key in keys:
            metric = run.benches[name].metrics.get(key) if name in run.benches else None
            if metric is not None and found[key] != metric.value:
                raise ValueError(
                    f"{key} is {found[key]}, but {metric.value} in benches.{name}.metrics"
                )
    for name, bench in run.benches.items():
        for gate in bench.gates.values():
            metric = bench.metrics.get(gate.name)
            if metric is not None and gate.value != metric.value:
                raise ValueError(
                    f"gate {name} {gate.name} judges {gate.value}, but the metric is {metric.value}"
                )
    if run.status != "running" and found["all_pass"] != (run.verdict == 0):
        raise ValueError(f"all_pass is {found['all_pass']}, but the gates say {run.verdict == 0}")
