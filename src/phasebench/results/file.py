"""results.json: what a run measured, judged and was run with, written whole after each event.

The top level has the specification's keys; everything else that is needed to judge or repeat the run stands beside them
(``results.schema.json`` is the contract). What was not measured is null with a reason; NaN and Infinity never occur.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phasebench.config import ConfigError
from phasebench.results.gate import (
    SEED_KEYS,
    BenchResult,
    Gate,
    Metric,
    entry,
    exit_code,
    failed,
    finished,
    spec_values,
)
from phasebench.results.jsonfile import destination, dumps, plain, write_atomic

__all__ = [
    "BenchResult",
    "Gate",
    "Metric",
    "ResultsFile",
    "config_hash",
    "exit_code",
    "load",
    "parse",
    "schema",
]

SCHEMA_VERSION = 1


class ResultsFile:
    """The results.json of one run. `path` is written at once and after each event, `copy_to` likewise.

    A `copy_to` that is a folder means the results.json in it. One that exists already is replaced only when a bench has
    finished, or has failed by more than a `ConfigError`. `point` says which point of a sweep this is, if it is one.
    Raises `ConfigError` if either place cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        benchmark_name: str,
        device: str,
        seed: int,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        environment: Mapping[str, Any],
        conditions: Sequence[Mapping[str, Any]],
        benches: Sequence[str],
        copy_to: Path | str | None = None,
        point: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = destination(path, "hydra.run.dir", "results.json")
        self.copy_path = None if copy_to is None else destination(copy_to, "output", "results.json")
        self._copying = self.copy_path is not None and not self.copy_path.exists()
        lost: dict[str, str] = {}
        timestamp = datetime.now(UTC).isoformat()
        head = {
            "benchmark_name": benchmark_name,
            "timestamp": timestamp,
            "device": device,
            "seed": seed,
        }
        tail = {
            "environment": environment,
            "config": config,
            "overrides": overrides,
            "conditions": conditions,
        }
        tail |= {"point": point} if point else {}
        self._head, self._tail = plain(head, "", lost), plain(tail, "", lost)
        self._tail["config_hash"] = config_hash(config)
        self._lost = lost
        self._data: dict[str, Any] | None = None
        self._status = "running"
        self._top: dict[str, Any] = {}
        self._top_reasons: dict[str, str] = {}
        self._benches = {name: entry("pending") for name in benches}
        self._write()

    def set_conditions(self, conditions: Sequence[Mapping[str, Any]]) -> None:
        """Replace the specification's conditions, once it is known which corpus is used."""
        self._tail["conditions"] = plain(conditions, "conditions", self._lost)
        self._write()

    def set_data(self, data: Mapping[str, Any]) -> None:
        """Record the text in use: name, source, comparable (with published perplexities), notice, tokenizer, sizes."""
        self._data = plain(data, "data", self._lost)
        self._write()

    def start(self, bench: str) -> None:
        """Record that a bench runs now."""
        self._set(bench, entry("running"))

    def finish(self, bench: str, result: BenchResult, duration_s: float) -> None:
        """Record what a bench measured.

        Raises ValueError for a key of the specification that is not the bench's, TypeError for what JSON cannot hold; the file then
        stays as it was.
        """
        done = finished(result, duration_s)
        top, reasons = spec_values(bench, result, done)
        self._require(bench)
        self._top |= top
        self._top_reasons |= reasons
        self._copying = self.copy_path is not None
        self._set(bench, done)

    def fail(
        self, bench: str, error: BaseException, duration_s: float, traceback: str | None = None
    ) -> None:
        """Record the error that ended a bench, and the text of its traceback."""
        self._copying = self._copying or (
            self.copy_path is not None and not isinstance(error, ConfigError)
        )
        self._set(bench, failed(type(error).__name__, str(error), traceback, duration_s))

    def close(self) -> dict[str, Any]:
        """End the run: ``ok`` if every bench ended well (whether or not its gates passed), else ``failed``."""
        for name, bench in self._benches.items():
            if bench["status"] == "running":
                self._benches[name] = failed(
                    "Interrupted", "the run ended before the bench did", None, None
                )
        self._status = (
            "ok" if all(bench["status"] == "ok" for bench in self._benches.values()) else "failed"
        )
        self._write()
        return self.as_dict()

    @property
    def exit_code(self) -> int:
        """0: every gate passed. 1: a gate failed. 2: something could not be measured (this wins over 1)."""
        return exit_code({"benches": self._benches})

    def as_dict(self) -> dict[str, Any]:
        """The content of the file as plain values."""
        reasons = dict(self._lost)
        values: dict[str, Any] = {}
        for bench, key in ((bench, key) for bench, keys in SEED_KEYS.items() for key in keys):
            values[key] = self._top.get(key)
            if values[key] is None:
                reasons[key] = self._top_reasons.get(key) or self._why_null(bench)
        values["all_pass"] = None if self._status == "running" else self.exit_code == 0
        if values["all_pass"] is None:
            reasons["all_pass"] = "the run has not ended"
        values["comparable"] = self._data["comparable"] if self._data else None
        if self._data is None:
            reasons["comparable"] = "no text was used"
        versions = {"schema_version": SCHEMA_VERSION, "status": self._status}
        parts = (
            versions
            | self._head
            | values
            | {"null_reasons": reasons, "data": self._data, "benches": self._benches}
            | self._tail
        )
        return copy.deepcopy(parts)

    def _why_null(self, bench: str) -> str:
        if bench not in self._benches:
            return f"bench {bench} was not asked for"
        found = self._benches[bench]
        if found["status"] == "failed":
            return f"bench {bench} failed: {found['error']['type']}: {found['error']['message']}"
        return (
            f"bench {bench} has not run"
            if found["status"] == "pending"
            else f"bench {bench} has not ended"
        )

    def _require(self, bench: str) -> None:
        if bench not in self._benches:
            raise ValueError(
                f"bench {bench} was not asked for; asked for: {', '.join(self._benches)}"
            )

    def _set(self, bench: str, found: dict[str, Any]) -> None:
        self._require(bench)
        self._benches[bench] = found
        self._write()

    def _write(self) -> None:
        text = dumps(self.as_dict()) + "\n"
        write_atomic(self.path, text)
        if self.copy_path is not None and self._copying:
            write_atomic(self.copy_path, text)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of results.json."""
    return json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))


def load(path: Path | str) -> dict[str, Any]:
    """Read a results.json. Raises ValueError with one line if it is truncated, foreign or of another version."""
    return parse(Path(path).read_bytes(), path)


def parse(content: bytes, path: Path | str) -> dict[str, Any]:
    """The bytes of a results.json; `path` is for the messages. Raises what `load` raises."""
    try:
        found = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON (truncated?): {error}") from error
    if not isinstance(found, dict) or "schema_version" not in found:
        raise ValueError(f"{path}: not a results.json of phasebench: no schema_version")
    if found["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version is {found['schema_version']!r}; this phasebench reads {SCHEMA_VERSION}"
        )
    missing = [key for key in _required() if key not in found]
    if missing:
        raise ValueError(f"{path}: not a results.json of phasebench: missing {', '.join(missing)}")
    return found


def config_hash(config: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a resolved configuration: keys sorted, no spaces."""
    canonical = json.dumps(
        plain(config, "config", {}), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


@functools.cache
def _required() -> tuple[str, ...]:
    return tuple(schema()["required"])


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
