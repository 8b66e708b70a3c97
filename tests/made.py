"""Results files for the tests of reports: a kept run of the H100, changed as a test needs and
consistent again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from paths import ROOT
from phasebench.report.read import judged
from phasebench.results.file import config_hash
from phasebench.results.gate import SPEC_KEYS, Gate, exit_code


@cache
def _kept() -> dict[str, Any]:
    return json.loads((ROOT / "tests/kept_run.json").read_text(encoding="utf-8"))


def content(
    config: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    passed: Mapping[str, bool | None] | None = None,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    benches: Sequence[str] = ("ppl", "energy", "vram"),
) -> dict[str, Any]:
    """The content of a results.json; keys are dotted: ``model.ode.dt``, ``energy.max_drift``."""
    found = copy.deepcopy(_kept())
    found["seed"] = found["config"]["seed"] = seed
    found["overrides"] = list(overrides)
    for key, value in (config or {}).items():
        *groups, last = key.split(".")
        group = found["config"]
        for name in groups:
            group = group.setdefault(name, {})
        group[last] = value
    for name in set(found["benches"]) - set(benches):
        del found["benches"][name], found["config"]["bench"][name]
    for key, value in (metrics or {}).items():
        bench, _, name = key.partition(".")
        _measure(found, bench, name, value)
    for key, value in (passed or {}).items():
        bench, _, name = key.partition(".")
        _judge(found, bench, name, value)
    return consistent(found)


def _measure(found: dict[str, Any], bench: str, key: str, value: Any) -> None:
    entry = found["benches"][bench]
    unit = entry["metrics"].get(key, {}).get("unit", "1")
    reason = "it was left out" if value is None else None
    entry["metrics"][key] = {"value": value, "unit": unit, "kind": "measured", "reason": reason}
    for gate in entry["gates"]:
        if gate["name"] == key:
            verdict = judged(Gate(**gate | {"value": value}))
            gate |= {"value": value, "passed": verdict, "reason": reason}
    if key in SPEC_KEYS.get(bench, ()):
        found[key] = value
        if value is None:
            found["null_reasons"][key] = reason


def _judge(found: dict[str, Any], bench: str, name: str, passed: bool | None) -> None:
    for gate in found["benches"][bench]["gates"]:
        if gate["name"] == name:
            gate |= {"passed": passed, "reason": "it was left out" if passed is None else None}
            if passed is not None:
                gate["target"] = "< 1e+09" if passed else "< -1e+09"


def consistent(found: dict[str, Any]) -> dict[str, Any]:
    """The same with its hash and verdicts made anew, as phasebench would have written it."""
    for bench, keys in SPEC_KEYS.items():
        if bench not in found["benches"]:
            found |= dict.fromkeys(keys)
            found["null_reasons"] |= dict.fromkeys(keys, f"bench {bench} was not asked for")
            continue
        verdicts = [gate["passed"] for gate in found["benches"][bench]["gates"]]
        found[f"{bench}_pass"] = False if False in verdicts else None if None in verdicts else True
        if found[f"{bench}_pass"] is None:
            found["null_reasons"][f"{bench}_pass"] = "a gate was not measured"
        for key in keys:
            if found[key] is None:
                found["null_reasons"].setdefault(key, f"bench {bench} failed")
    found["all_pass"] = exit_code(found) == 0
    found["config_hash"] = config_hash(found["config"])
    return found


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    """Write it as folder/results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


def sweep(
    folder: Path, dts: Sequence[float], integrators: Sequence[str], seeds: Sequence[int] = (0,)
) -> list[Path]:
    """A sweep whose drift is 1e-3 dt^2 for leapfrog and 1e-2 dt^4 for any other integrator."""
    paths = []
    for integrator in integrators:
        for dt in dts:
            for seed in seeds:
                drift = (1e-3 * dt**2 if integrator == "leapfrog" else 1e-2 * dt**4) * (
                    1 + 0.01 * seed
                )
                found = content(
                    {"bench.energy.dt": dt, "bench.energy.integrator": integrator},
                    {
                        "energy.max_drift": drift,
                        "energy.mean_drift": drift / 8,
                        "ppl.candidate_ppl": 60.0 + dt + seed,
                    },
                    seed=seed,
                    overrides=[
                        f"bench.energy.dt={dt}",
                        f"bench.energy.integrator={integrator}",
                        f"seed={seed}",
                    ],
                )
                found["stage2_ppl"] = found["benches"]["ppl"]["metrics"]["candidate_ppl"]["value"]
                paths.append(write(folder / str(len(paths)), found))
    return paths
