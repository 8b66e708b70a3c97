"""Read one results.json as report and comparison use it: checked, typed, without its raw samples.

What a file says is not believed: the schema decides about its form, and what phasebench writes in
two places must agree. Each gate's verdict is made anew from its value, comparison and target.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phasebench.report.text import is_number
from phasebench.results.file import config_hash, parse
from phasebench.results.gate import COMPARE, Gate, Metric, Need, exit_code, top_values
from phasebench.results.jsonfile import Json

GREATEST = 1e100  # number that is believed: its square, of which a variance is made, is a float too
LARGEST = 256 * 2**20  # bytes of a results.json; the largest real ones have 1 MB
PER_TIME = "evaluations_per_time"
DURATION = "duration_s"

_TARGET = re.compile(r"(?P<comparison>[<>]=?)? ?(?:exactly )?(?P<target>-?[\d.]+(?:e[+-]?\d+)?)")
# gates that a bench always brings, or always where this key of its configuration is set
EXPECTED: dict[str, dict[str, str | None]] = {
    "ppl": {
        "ppl_ratio": None,
        "ppl_ratio_high": "upper_target",
        "candidate_ppl": "max_ppl",
        "leak": "leak_test",
    },
    "energy": {"max_drift": None, "monotone_layers": None, "secular_change": "secular_target"},
    "vram": {"vram_symplectic_gb": None, "vram_reduction_pct": None},
    "grad": {"reconstruction": None, "gradient_error": None, "held_growth": None},
    "koopman": {"koopman_iterated_error": None, "koopman_leapfrog_ratio": None},
    "recall": {
        "koopman_memory_recall": None,
        "mera_recall": None,
        "mera_cost_exponent": "cost_lengths",
    },
}


class Broken(ValueError):
    """A file that cannot be used, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True)
class Bench:
    """What one bench measured, and the figures that its details imply (`derived`)."""

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
        verdict: exit code of the run: 0 every gate passed, 1 one failed, 2 one was not measured.
        weights: file names of the weights whose training history the file has; of a model's seeds,
            the first one's.
        side_by_side: jobs of its sweep that may have run at one time on its machine.
    """

    path: Path
    digest: str
    timestamp: str
    status: str  # running ok failed
    overrides: tuple[str, ...]
    config: Json
    data: str | None
    device: str
    environment: Json
    benches: dict[str, Bench]
    verdict: int
    weights: tuple[str, ...]
    side_by_side: int = 1


def verified(path: Path) -> tuple[Json, dict[str, Bench], str]:
    """Read a results.json whose parts agree: all, its benches, its digest. Raises `Broken`."""
    results, digest = content(path)
    benches: dict[str, Bench] = {}
    try:
        for name, entry in results["benches"].items():
            benches[name] = _bench(name, entry, results["config"])
        problem = next(_contradictions(results, benches), None)
    except (ValueError, OverflowError) as error:  # a number beyond the floats
        problem = str(error)
    if problem is not None:
        raise Broken(path, f"not as phasebench writes it (edited by hand?): {problem}")
    return results, benches, digest


def read(path: Path) -> Run:
    """Read and check a results.json. Raises `Broken`."""
    results, benches, digest = verified(path)
    gpu = results["environment"].get("gpu")
    return Run(
        path,
        digest,
        results["timestamp"],
        results["status"],
        tuple(results["overrides"]),
        results["config"],
        results["data"] and results["data"]["fingerprint"],
        gpu["name"] if gpu else str(results["environment"].get("cpu") or results["device"]),
        results["environment"],
        benches,
        exit_code(results),
        tuple(dict.fromkeys(own[0]["file"] for own in histories(results["benches"]))),
        results.get("point", {}).get("side_by_side", 1),
    )


def content(path: Path) -> tuple[Json, str]:
    """Read all of a results.json, raw samples too, and the file's digest. Raises `Broken`."""
    raw = read_bytes(path)
    try:
        return parse(raw, path), hashlib.sha256(raw).hexdigest()
    except ValueError as error:
        raise Broken(path, str(error).removeprefix(f"{path}: ")) from error


def read_bytes(path: Path) -> bytes:
    """Read a regular file of at most `LARGEST` bytes. Raises `Broken`."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            raise Broken(path, "cannot be read: not a regular file")
        if status.st_size > LARGEST:
            raise Broken(path, f"larger than {LARGEST // 2**20} MiB: not a {path.name}")
        return path.read_bytes()
    except OSError as error:
        raise Broken(path, f"cannot be read: {error.strerror or error}") from error


def _bench(name: str, entry: Json, config: Json) -> Bench:
    error = entry["error"]
    metrics = {key: Metric(**metric) for key, metric in entry["metrics"].items()}
    return Bench(
        entry["status"],
        metrics | dict(derived(name, entry, config)),
        {
            gate["name"]: Gate(**gate | {"needs": tuple(Need(**n) for n in gate.get("needs", ()))})
            for gate in entry["gates"]
        },
        entry["notices"],
        error and f"{error['type']}: {error['message']}",
    )


def _contradictions(results: Json, benches: Mapping[str, Bench]) -> Iterator[str]:
    """Tell where two places of a results.json disagree that phasebench writes together."""
    if config_hash(results["config"]) != results["config_hash"]:
        yield "config_hash is not the hash of config"
    for name, bench in benches.items():
        for key, item in (*bench.metrics.items(), *bench.gates.items()):
            if is_number(item.value) and abs(item.value) > GREATEST:
                yield f"benches.{name}: {key} is larger than {GREATEST:g}: no measurement"
    for key, value in top_values(results["benches"])[0].items():
        if value is not None and results.get(key, value) != value:
            yield f"{key} is {results[key]}, but benches say {value}"
    for name, bench in benches.items():
        yield from _misjudged(name, bench, results["config"].get("bench", {}).get(name) or {})
    passes = exit_code(results) == 0
    if results["status"] != "running" and results["all_pass"] != passes:
        yield f"all_pass is {results['all_pass']}, but the gates say {passes}"


def _misjudged(name: str, bench: Bench, config: Json) -> Iterator[str]:
    """Tell which gates of a bench are missing, judge another value, or judge it wrongly."""
    for gate in bench.gates.values():
        metric = bench.metrics.get(gate.name)
        if metric is not None and gate.value != metric.value:
            yield f"gate {name} {gate.name} judges {gate.value}, but the metric is {metric.value}"
        verdict = judged(gate)
        if gate.passed is not None and verdict is not gate.passed:
            told = f"{gate.value} against {gate.target} is {verdict}"
            yield f"gate {name} {gate.name} has passed = {gate.passed}, but {told}"
        if gate.limit is not None and not gate.target.startswith(
            f"{gate.comparison} {gate.limit:g}"
        ):
            yield f"gate {name} {gate.name} has limit {gate.limit}, but target {gate.target}"
    for gate, key in EXPECTED.get(name, {}).items() if bench.status == "ok" else ():
        if gate not in bench.gates and (key is None or config.get(key)):
            yield f"bench {name} ended well, but its gate {gate} is missing"


def judged(gate: Gate) -> bool | None:
    """Judge a gate's value anew; None without a value, a limit or the evidence it needs.

    Examples:
        >>> judged(Gate("ppl_ratio", True, 1.5, "<= 1.02"))
        False
    """
    target = limit(gate)
    if gate.value is None or target is None:
        return None
    if any(need.value is None or not need.value >= need.least for need in gate.needs):
        return None
    words = _TARGET.match(gate.target)
    comparison = gate.comparison or (words and words["comparison"]) or "=="
    return COMPARE[comparison](gate.value, target)


def limit(gate: Gate) -> float | None:
    """Return the number that a gate's value is compared with; None where its target names none."""
    words = _TARGET.match(gate.target)
    return gate.limit if gate.limit is not None else float(words["target"]) if words else None


def derived(name: str, entry: Json, config: Json) -> Iterator[tuple[str, Metric]]:
    """Name the figures that a bench's entry in results.json implies.

    Wall time, unless a training is part of it (the first point of a sweep would seem slow), the
    time of each arm, and

        evaluations_per_time = force evaluations / (steps dt)      a layer and unit of H's time

    so that a small dt is not free: the energy bench takes a fixed number of steps.
    """
    details = entry["details"]
    if entry["duration_s"] is not None and entry["status"] == "ok":
        origins = [one.get("origin") for own in _weights(details) for one in own]
        # of several seeds, the energy bench names the first one's weights only
        trained = "trained" in origins or len(details.get("seeds") or ()) > 1
        reason = "the bench trained its weights first, or may have" if trained else None
        value = None if trained else float(entry["duration_s"])
        yield DURATION, Metric(value, "s", reason=reason)
    if name == "energy":
        evaluations = entry["metrics"].get("force_evaluations", {}).get("value")
        own = config.get("bench", {}).get("energy", {})
        time = own.get("steps", 0) * own.get("dt", 0)
        if is_number(evaluations) and time:
            yield PER_TIME, Metric(evaluations / time, "a layer and unit of time", "counted")
    for row in details.get("rows", ()) if name == "speed" else ():
        parts = [row["what"].replace(" ", "_"), row["arm"], row.get("precision"), "ms"]
        reason = row.get("reason") or "was not measured"
        yield "_".join(filter(None, parts)), Metric(row["median_ms"], "ms", reason=reason)


def _weights(details: Json) -> list[list[Json]]:
    """List the weights that a bench's details name, those of one model's seeds together."""
    sets = []
    for model in (details, *(d for d in details.values() if isinstance(d, dict))):
        seeds = [row for row in model.get("seeds") or () if isinstance(row, dict)]
        named = [one.get("weights") for one in seeds or [model]]
        sets.append([weights for weights in named if isinstance(weights, dict)])
    return sets


def histories(benches: Json) -> list[list[Json]]:
    """List the weights that benches name with their training history; those of one model's seeds
    are one set.

    A bench that uses some of another's weights adds no set.
    """
    sets = [own for entry in benches.values() for own in _weights(entry["details"])]
    kept: dict[frozenset[str], list[Json]] = {}
    for own in sorted(sets, key=len, reverse=True):
        with_history = [weights for weights in own if weights.get("steps")]
        files = frozenset(weights["file"] for weights in with_history)
        if not any(files <= other for other in kept):
            kept[files] = with_history
    return [own for own in kept.values() if own]
