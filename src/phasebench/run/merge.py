"""Runs of one seed or one model each, merged into one result with intervals.

    python -m phasebench.run.merge RUN RUN ... --output FOLDER

A RUN is a results.json or its folder, with bench=ppl. All must have the same text and the same
configuration but for seeds and for where files are; code and card may differ, which a notice says.
A run of one model (bench.ppl.baseline=null) adds its model: the first run's is the candidate, the
next other one the baseline, then the reference. All is computed and judged as by one run of all.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from phasebench.bench.evidence import trained
from phasebench.bench.ppl.bench import judge
from phasebench.bench.ppl.seeds import Scored, Weights
from phasebench.config import ConfigError, to_config
from phasebench.data import Split
from phasebench.report.summary import render
from phasebench.results.conditions import check
from phasebench.results.file import ResultsFile, load
from phasebench.results.gate import Metric
from phasebench.run.errors import refuse
from phasebench.training.scoring import Score

ROLES = {"candidate": "model", "baseline": "bench.ppl.baseline", "reference": "bench.ppl.reference"}
# what may differ: seeds, where files are, sizes that other keys have taken, other benches' keys;
# the models are compared role by role
_FREE = ("seed", "output", "cache_dir", "scale", "data.path", "bench.ppl.seeds", *ROLES.values())
_FREE += ("bench.energy", "bench.vram", "bench.grad", "bench.speed")

_TAKEN = ("benchmark_name", "device", "seed", "overrides", "environment")  # from the first run


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge the runs that the command names; the exit code is that of the merged result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args(arguments)
    try:
        files = [run / "results.json" if run.is_dir() else run for run in options.runs]
        return merge({str(file): load(file) for file in files}, options.output)
    except (ConfigError, OSError) as error:
        return refuse(error)
    except ValueError as error:  # of a file that is no results.json
        return refuse(ConfigError("", "", str(error)))


def merge(runs: Mapping[str, dict[str, Any]], folder: Path) -> int:
    """Merge the contents of results.json files into one in `folder`; returns its exit code.

    Raises `ConfigError` for runs that do not belong together.
    """
    first = next(iter(runs.values()))
    tree = copy.deepcopy(first["config"])
    models = _models(runs, tree)
    tree["bench"] = {"ppl": tree["bench"]["ppl"] | {"seeds": models["candidate"].seeds}}
    config = to_config(tree)
    metrics = first["benches"]["ppl"]["metrics"]
    words, size = (metrics.get(f"candidate_{k}", {}).get("value") or 1 for k in ("words", "bytes"))
    split = Split(config.bench["ppl"].split, torch.empty(0, dtype=torch.int64), words, size, None)
    result = judge(config.bench["ppl"], models, split)
    result.notices.append(_notice(runs))
    results = ResultsFile(
        folder / "results.json",
        config=config.recorded(),
        conditions=check(config, first["data"]["name"], first["data"]["vocab_size"]),
        benches=["ppl"],
        **{key: first[key] for key in _TAKEN},
    )
    results.set_data(first["data"])
    results.finish("ppl", result, sum(run["benches"]["ppl"]["duration_s"] for run in runs.values()))
    render(results.close(), path=results.path)
    return results.exit_code


def _models(runs: Mapping[str, dict[str, Any]], tree: dict[str, Any]) -> dict[str, Scored]:
    """Collect each model's weights of all runs, by role; `tree` gets the models that it lacks."""
    (place, first), *_ = runs.items()
    weights: dict[str, dict[int, Weights]] = defaultdict(dict)
    names: dict[str, str] = {}
    for path, run in runs.items():
        _require_same("", (place, _compared(first)), (path, _compared(run)))
        for role, to, name in _roles(path, run, names):
            model = _value(run["config"], ROLES[role])
            if to not in weights and to != "candidate":
                tree["bench"]["ppl"][to] = model
            _require_same(ROLES[to], (place, _value(tree, ROLES[to])), (path, model))
            for row in run["benches"]["ppl"]["details"][role]["seeds"]:
                read = _weights(run["benches"]["ppl"], role, row)
                if weights[to].setdefault(row["seed"], read).score != read.score:
                    problem = f"{path}: another perplexity of {name} than a run before it has"
                    raise ConfigError("seed", row["seed"], problem, "leave one of them out")
    seeds = sorted(weights["candidate"])
    for name, role in names.items():
        if sorted(weights[role]) != seeds:
            problem = f"of {name}, but {seeds} of the candidate"
            raise ConfigError("seeds", sorted(weights[role]), problem, "train both from each seed")
    found = {role: name for name, role in names.items()}
    return {
        role: Scored(found[role], seeds, [weights[role][seed] for seed in seeds])
        for role in ROLES
        if role in weights
    }


def _roles(
    path: str, run: Mapping[str, Any], names: dict[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Yield a run's roles, those in the merged result, and the models' names."""
    entry = run["benches"].get("ppl", {})
    if entry.get("status") != "ok":
        raise ConfigError("", "", f"{path}: has no results of bench=ppl")
    own = [role for role in ROLES if role in entry["details"]]
    for role in own:
        name = entry["details"][role]["name"]
        to = role if len(own) > 1 else names.get(name) or [*ROLES, ""][len(names)]
        if not to or names.setdefault(name, to) != to:
            raise ConfigError("", "", f"{path}: no role is left for its model {name}")
        yield role, to, name


def _weights(entry: Mapping[str, Any], role: str, row: Mapping[str, Any]) -> Weights:
    """Read what a run measured of one model's weights of one seed."""
    details = entry["details"][role]
    metrics = {name: Metric(**metric) for name, metric in entry["metrics"].items()}
    names = ("parameters", "parameters_without_embedding", "flops_per_token")
    needs = [need for gate in entry["gates"] for need in gate.get("needs", ())]
    change = min((n["value"] for n in needs if n["what"] == trained(0).what), default=math.nan)
    leak = metrics.get(f"{role}_leak")
    return Weights(
        Score(row["nats"], details["tokens"], 0, details["complete"]),
        row["weights"],
        [],
        {name: metrics[f"{role}_{name}"] for name in names},
        change,
        None if leak is None or leak.value is None else float(leak.value),
    )


def _compared(run: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten what must be the same in all runs: configuration and text, but for what is free."""
    flat = dict(_flat(run["config"], "")) | {"data": (run["data"] or {}).get("fingerprint")}
    free = tuple(f"{key}." for key in _FREE)
    return {key: value for key, value in flat.items() if not f"{key}.".startswith(free)}


def _require_same(at: str, known: tuple[str, Any], other: tuple[str, Any]) -> None:
    a, b = dict(_flat(known[1], at)), dict(_flat(other[1], at))
    for key in {**a, **b}:
        if a.get(key) != b.get(key):
            problem = f"in {other[0]}, but {a.get(key)} in {known[0]}"
            raise ConfigError(key, b.get(key), problem, "merge runs that differ in seeds only")


def _flat(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{at}.{key}" if at else key)
    else:
        yield at, value


def _value(config: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        config = config[key]
    return config


def _notice(runs: Mapping[str, dict[str, Any]]) -> str:
    environments = [run["environment"] for run in runs.values()]
    commits = {str((e.get("git") or {}).get("commit")) for e in environments}
    cards = {str((e.get("gpu") or {}).get("name")) for e in environments}
    told = f"merged from {len(runs)} runs: {', '.join(runs)}"
    told += f"; of several commits: {', '.join(sorted(commits))}" if len(commits) > 1 else ""
    return told + (f"; of several cards: {', '.join(sorted(cards))}" if len(cards) > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
