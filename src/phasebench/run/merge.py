"""Runs of one seed or one model each, merged into one result with intervals.

    python -m phasebench.run.merge RUN RUN ... --output FOLDER

A RUN is a results.json or its folder, with bench=ppl, budget or parts. All must have the same
text, card and code, and the same configuration but for seeds and for where files are. A run of one
model (bench.ppl.baseline=null) adds its model: the first run's is the candidate, the next other one
the baseline, then the reference. Of bench=budget a model may have longer budgets than another: then
ratios are at the largest that both reach, and each at its own best. Of bench=parts runs have some
cells each (bench.parts.cells). All is computed and judged as by one run of all.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from phasebench.bench.budget import bench as budget
from phasebench.bench.evidence import trained
from phasebench.bench.parts import judge as parts
from phasebench.bench.ppl.bench import judge
from phasebench.bench.ppl.seeds import Scored, Weights
from phasebench.bench.workbench import roles
from phasebench.config import Config, ConfigError, to_config
from phasebench.data import Split
from phasebench.report.axes import flatten
from phasebench.report.summary import render
from phasebench.results.conditions import check
from phasebench.results.file import ResultsFile, load
from phasebench.results.gate import BenchResult, Metric
from phasebench.results.jsonfile import Json
from phasebench.run.errors import refuse
from phasebench.training.scoring import Score

ROLES = ("candidate", "baseline", "reference")
# what may differ: seeds, where files are, sizes that other keys have taken, other benches' keys;
# the models are compared role by role
_FREE = ("seed", "output", "cache_dir", "scale", "data.path", "model")
_FREE += tuple(f"bench.{name}" for name in ("energy", "vram", "grad", "speed"))
_FREE += tuple(f"bench.{name}.{key}" for name in ("ppl", "budget") for key in ("seeds", *ROLES[1:]))
_FREE += ("bench.budget.budgets", "bench.parts.cells")
_TAKEN = ("device", "overrides", "environment")  # from the first run

# benches of one model a role -> the key of their rows in a role's details
_ROWS = {"ppl": "seeds", "budget": "trainings"}

Runs = dict[str, Json]  # path -> content of its results.json
Pool = dict[str, dict[int, list[Any]]]  # role -> seed -> what was measured, in the rows' order


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


def merge(runs: Runs, folder: Path) -> int:
    """Merge the contents of results.json files into one in `folder`; returns its exit code.

    Raises `ConfigError` for runs that do not belong together.
    """
    (place, first), *_ = runs.items()
    benches = [name for name in (*_ROWS, "parts") if name in first["benches"]]
    if not benches:
        raise ConfigError("", "", f"{place}: has no results of bench=ppl, budget or parts")
    for path, run in runs.items():
        _require_same((place, _compared(first)), (path, _compared(run)))
        for name in benches:
            if run["benches"].get(name, {}).get("status") != "ok":
                raise ConfigError("", "", f"{path}: has no results of bench={name}")
    tree = copy.deepcopy(first["config"])
    tree["bench"] = {name: tree["bench"][name] for name in benches}
    rows = {name: _pool(name, runs, tree) if name in _ROWS else _cells(runs) for name in benches}
    if "parts" in benches:
        tree["bench"]["parts"]["cells"] = None
    config = to_config(tree)
    results = ResultsFile(
        folder / "results.json",
        config=config.recorded(),
        **{key: first[key] for key in _TAKEN},
    )
    results.set_data(first["data"], check(config, first["data"]))
    for name in benches:
        result = _JUDGES[name](config, rows[name], first)
        result.notices.append(f"merged from {len(runs)} runs: {', '.join(runs)}")
        seconds = sum(run["benches"][name]["duration_s"] for run in runs.values())
        results.finish(name, result, seconds)
    render(results.close(), path=results.path)
    return results.exit_code


def _pool(bench: str, runs: Runs, tree: Json) -> Pool:
    """Collect the rows of all runs by role and seed.

    `tree` gets the models that it lacks, and the seeds.
    """
    place, names = next(iter(runs)), dict[str, str]()  # of a model -> its role
    pool: Pool = defaultdict(dict)
    for path, run in runs.items():
        entry = run["benches"][bench]
        for role, to in _roles(path, entry["details"], names):
            model = _model(run["config"], bench, role)
            if to not in pool and to != "candidate":
                tree["bench"][bench][to] = model
            at = "model" if to == "candidate" else f"bench.{bench}.{to}"
            _require_same((place, {at: _model(tree, bench, to)}), (path, {at: model}))
            own: dict[int, list[Any]] = defaultdict(list)
            for row in entry["details"][role][_ROWS[bench]]:
                measured = _weights(entry, role, row) if bench == "ppl" else row
                own[row["seed"]].append(measured)
            for seed, measured in own.items():
                if pool[to].setdefault(seed, measured) != measured:
                    problem = f"{path}: another perplexity of {role} than a run before it has"
                    raise ConfigError("seed", seed, problem, "leave one of them out")
    seeds = sorted(pool["candidate"])
    for role, found in pool.items():
        if sorted(found) != seeds:
            problem = f"of the {role}, but {seeds} of the candidate"
            raise ConfigError("seeds", sorted(found), problem, "train both from each seed")
    tree["bench"][bench]["seeds"] = seeds
    if bench == "budget":
        tree["bench"][bench]["budgets"] = _budgets(pool)
    return {role: {seed: pool[role][seed] for seed in seeds} for role in ROLES if role in pool}


def _budgets(pool: Pool) -> list[float]:
    """Collect the budgets of all models; raises `ConfigError` where two seeds of one differ."""
    every: set[float] = set()
    for role, found in pool.items():
        own = [[row["epochs"] for row in rows] for rows in found.values()]
        if other := next((budgets for budgets in own if budgets != own[0]), None):
            problem = f"of one seed of the {role}, but {own[0]} of another"
            raise ConfigError("bench.budget.budgets", other, problem, "the same for each seed")
        every.update(own[0])
    return sorted(every)


def _roles(path: str, details: Json, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a run's roles, and those that their models have in the merged result.

    `names` are the merged result's roles by the name of their model, and get what they lack.
    """
    own = [role for role in ROLES if role in details]
    for role in own:
        name = details[role]["name"]
        to = role if len(own) > 1 else names.get(name) or [*ROLES, ""][len(names)]
        if not to or names.setdefault(name, to) != to:
            raise ConfigError("", "", f"{path}: no role is left for its model {name}")
        yield role, to


def _model(tree: Json, bench: str, role: str) -> Json:
    return tree["model"] if role == "candidate" else tree["bench"][bench][role]


def _cells(runs: Runs) -> list[Json]:
    """Collect the trainings of bench=parts of all runs, in the order of their numbers."""
    (place, first), *_ = runs.items()
    rows: dict[int, Json] = {}
    for path, run in runs.items():
        a, b = ({"model": one["config"]["model"]} for one in (first, run))
        _require_same((place, a), (path, b))
        for row in run["benches"]["parts"]["details"]["cells"]:
            if rows.setdefault(row["number"], row)["nats"] != row["nats"]:
                problem = f"{path}: another perplexity than a run before it has"
                raise ConfigError("bench.parts.cells", row["number"], problem, "leave one out")
    return [rows[number] for number in sorted(rows)]


def _weights(entry: Json, role: str, row: Json) -> Weights:
    """Read what bench=ppl measured of one model's weights of one seed."""
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


def _judge_ppl(config: Config, pool: Pool, first: Json) -> BenchResult:
    own, metrics = config.bench["ppl"], first["benches"]["ppl"]["metrics"]
    words, size = (metrics.get(f"candidate_{k}", {}).get("value") or 1 for k in ("words", "bytes"))
    split = Split(own.split, torch.empty(0, dtype=torch.int64), words, size, None)
    models = {}
    for role, (_, model) in roles(config, "ppl", own).items():
        seeds = pool[role]
        if model.name == "hf" and model.checkpoint:
            problem = "has a tokenizer of its own, by which merged runs cannot be compared"
            raise ConfigError("model", "hf", problem, "score it in one run with the others")
        models[role] = Scored(model.name, list(seeds), [weights for [weights] in seeds.values()])
    return judge(own, models, split)


def _judge_budget(config: Config, pool: Pool, first: Json) -> BenchResult:
    own, data, trainings = config.bench["budget"], first["data"], {}
    for role, (_, model) in roles(config, "budget", own).items():
        trainings[role] = budget.trainings_of(model, data["vocab_size"], config.train.seq)
        for row in itertools.chain(*pool[role].values()):
            # FLOPs, which older files have too, are counted anew
            point = row["point"] and {key: row["point"][key] for key in budget.MEASURED}
            trainings[role].rows.append(row | {"point": point})
    return budget.judge(own, trainings, data["tokens"][own.split])


def _judge_parts(config: Config, rows: list[Json], _first: Json) -> BenchResult:
    return parts.judge(config.bench["parts"], rows)


_JUDGES: dict[str, Callable[[Config, Any, Json], BenchResult]] = {
    "ppl": _judge_ppl,
    "budget": _judge_budget,
    "parts": _judge_parts,
}


def _compared(run: Json) -> Json:
    """List by dotted key what must be the same: configuration, text, code and card."""
    made = run["environment"]
    flat = flatten(run["config"]) | {
        "data": (run["data"] or {}).get("fingerprint"),
        "code": made.get("code") or (made.get("git") or {}).get("commit"),
        "GPU": (made.get("gpu") or {}).get("name"),
    }
    free = tuple(f"{key}." for key in _FREE)
    return {key: value for key, value in flat.items() if not f"{key}.".startswith(free)}


def _require_same(known: tuple[str, Json], other: tuple[str, Json]) -> None:
    (place, a), (path, b) = ((of, flatten(tree)) for of, tree in (known, other))
    for key in a | b:
        if a.get(key) != b.get(key):
            problem = f"in {path}, but {a.get(key)} in {place}"
            raise ConfigError(key, b.get(key), problem, "merge runs that differ in seeds only")


if __name__ == "__main__":
    sys.exit(main())
