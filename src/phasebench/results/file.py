"""results.json: what a run measured, judged and was run with, written whole after each event.

The top level has the specification's keys; everything else that is needed to judge or repeat the
run stands beside them (schema.json is the contract). What was not measured is null with a reason;
NaN and Infinity never occur.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phasebench.config import ConfigError
from phasebench.results.gate import (
    BenchResult,
    entry,
    exit_code,
    failed,
    finished,
    top_values,
)
from phasebench.results.jsonfile import Json, destination, dumps, plain, write_atomic

SCHEMA_VERSION = 2
NAME = "results.json"
_FIRST = b'{\n  "schema_version": '  # of every results.json
_AT_LEAST = ", at least: "  # version 1 wrote that a value is a lower bound, and why, in its unit


class ResultsFile:
    """The results.json of one run. `path` is written at once and after each event, `copy_to`
    likewise. `config` is what `Config.recorded` gives.

    A `copy_to` that is a folder means the results.json in it. One that exists already is replaced
    only when a bench has finished, or has failed by more than a `ConfigError`. `point` says which
    point of a sweep this is, if it is one. Raises `ConfigError` if either place cannot be written,
    or holds another program's file.
    """

    def __init__(
        self,
        path: Path,
        *,
        config: Json,
        device: str,
        overrides: Sequence[str],
        environment: Json,
        copy_to: Path | str | None = None,
        point: Json | None = None,
    ) -> None:
        # a point's folder is its own: a results.json that cannot be read is measured again
        self.path = destination(path, "hydra.run.dir", NAME, b"" if point else _FIRST)
        self.copy_path = destination(copy_to, "output", NAME, _FIRST) if copy_to else None
        self._copying = bool(self.copy_path and not self.copy_path.exists())
        self._reasons: dict[str, str] = {}
        head = {
            "benchmark_name": config["benchmark_name"],
            "timestamp": datetime.now(UTC).isoformat(),
            "device": device,
            "seed": config["seed"],
        }
        tail = {"environment": environment, "config": config, "overrides": overrides}
        tail["conditions"] = []  # until it is known which text is used
        if point:
            tail["point"] = point
        self._head = plain(head, "", self._reasons)
        self._tail = plain(tail, "", self._reasons) | {"config_hash": config_hash(config)}
        self._data: Json | None = None
        self._status = "running"
        self._benches = {name: entry("pending") for name in config["bench"]}
        self._write()

    def set_data(self, data: Json | None, conditions: Sequence[Any]) -> None:
        """Record the text in use (name, source, notice, tokenizer, sizes, comparability), if any,
        and the specification's conditions, which tell of it too.
        """
        self._data = plain(data, "data", self._reasons)
        self._tail["conditions"] = plain(conditions, "conditions", self._reasons)
        self._write()

    def start(self, bench: str) -> None:
        """Record that a bench runs now."""
        self._set(bench, entry("running"))

    def finish(self, bench: str, result: BenchResult, duration_s: float) -> None:
        """Record what a bench measured.

        Raises TypeError for what JSON cannot hold; the file then stays as it was.
        """
        done = finished(result, duration_s)
        self._copying = True
        self._set(bench, done)

    def fail(
        self, bench: str, error: BaseException, duration_s: float, traceback: str | None = None
    ) -> None:
        """Record the error that ended a bench, and the text of its traceback."""
        self._copying |= not isinstance(error, ConfigError)
        message = str(error) or "memory has run out" * isinstance(error, MemoryError)
        self._set(bench, failed(type(error).__name__, message, traceback, duration_s))

    def close(self) -> Json:
        """End the run: ``ok`` if every bench ended well (whether or not its gates passed), else
        ``failed``.
        """
        for name, bench in self._benches.items():
            if bench["status"] == "running":
                lost = failed("Interrupted", "the run ended before the bench did", None, None)
                self._benches[name] = lost
        ended_well = all(bench["status"] == "ok" for bench in self._benches.values())
        self._status = "ok" if ended_well else "failed"
        self._write()
        return self.as_dict()

    @property
    def exit_code(self) -> int:
        """0: every gate passed. 1: one failed. 2: something was not measured, or nothing judged."""
        return exit_code({"benches": self._benches})

    def as_dict(self) -> Json:
        """Give the content of the file as plain values."""
        values, why_null = top_values(self._benches)
        reasons = self._reasons | why_null
        values["all_pass"] = None if self._status == "running" else self.exit_code == 0
        if values["all_pass"] is None:
            reasons["all_pass"] = "the run has not ended"
        values["comparable"] = self._data["comparable"] if self._data else None
        if self._data is None:
            reasons["comparable"] = "no text was used"
        parts = {"schema_version": SCHEMA_VERSION, "status": self._status} | self._head | values
        parts |= {"null_reasons": reasons, "data": self._data, "benches": self._benches}
        return copy.deepcopy(parts | self._tail)

    def _set(self, bench: str, content: Json) -> None:
        if bench not in self._benches:
            asked = ", ".join(self._benches)
            raise ValueError(f"bench {bench} was not asked for; asked for: {asked}")
        self._benches[bench] = content
        self._write()

    def _write(self) -> None:
        text = dumps(self.as_dict()) + "\n"
        write_atomic(self.path, text)
        if self.copy_path and self._copying:
            write_atomic(self.copy_path, text)


def schema() -> Json:
    """Read the JSON Schema (draft 2020-12) of results.json."""
    return json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))


def load(path: Path | str) -> Json:
    """Read a results.json. Raises ValueError with one line if it is truncated, foreign or of
    another version.
    """
    return parse(Path(path).read_bytes(), path)


def parse(content: bytes, path: Path | str) -> Json:
    """Read the bytes of a results.json; `path` is for the messages. Raises what `load` raises.

    What version 1 wrote otherwise is brought to the present form; the schema holds for what is
    returned.
    """

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        results = json.loads(content.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON (truncated?): {error}") from error
    if not isinstance(results, dict) or "schema_version" not in results:
        raise ValueError(f"{path}: not a results.json of phasebench: no schema_version")
    version = results["schema_version"]
    problem = f"schema_version is {version!r}; this phasebench reads 1 and {SCHEMA_VERSION}"
    if version not in (1, SCHEMA_VERSION) or (problem := _problem(results)):
        raise ValueError(f"{path}: {problem}")
    if version == 1:
        _upgrade(results)
    return results


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())


def _problem(results: Json) -> str | None:
    """Say where the content of a file breaks the schema the most; None where it does not."""
    from jsonschema.exceptions import best_match

    missing = [key for key in _validator().schema["required"] if key not in results]
    if missing:
        return f"not a results.json of phasebench: missing {', '.join(missing)}"
    error = best_match(_validator().iter_errors(results))
    if error is None:
        return None
    place = error.json_path.removeprefix("$").removeprefix(".")
    return f"not as phasebench writes it (edited by hand?): {place}: {error.message[:200]}"


def _upgrade(results: Json) -> None:
    """Bring a valid version 1 to the present form, in place: lower bounds, vram_reduction_ratio."""
    name = "vram_reduction_ratio"
    for metrics in (bench["metrics"] for bench in results["benches"].values()):
        for metric in metrics.values():
            metric["unit"], _, bound = metric["unit"].partition(_AT_LEAST)
            metric["bound"] = bound or None
        if name in metrics and (inverse := metrics[name]["value"]):
            metrics[name] |= {"value": 1 / inverse, "unit": "adjoint / full backprop"}
            if metrics[name]["bound"]:  # of the inverse: of the ratio itself an upper bound
                reason = f"full backprop ran out of memory: the ratio is at most {1 / inverse:.4g}"
                metrics[name] |= {"value": None, "reason": reason, "bound": None}
                results["null_reasons"][name] = reason
            results[name] = metrics[name]["value"]
    results["schema_version"] = SCHEMA_VERSION


def config_hash(config: Any) -> str:
    """Hash the canonical JSON of a configuration (keys sorted, no spaces): SHA-256, hex."""
    canonical = json.dumps(
        plain(config, "config", {}), sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()
