"""The statistics of bench.ppl over results.json files of runs with one or a few seeds each, on different days say.

    python outputs/reference/combine_seeds.py A/results.json B/results.json ...

Prints each model's perplexities, their mean and standard deviation, and the candidate's ratio to the others with its
95 % interval, as bench.ppl.seeds does.  Refuses runs that differ in more than their seeds, output paths and timing.
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import sys
from pathlib import Path

from phasebench.results.file import load
from phasebench.results.stats import ratio_interval

ROLES = ("candidate", "baseline", "reference")


def main(paths: list[str]) -> int:
    runs = [load(Path(path)) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if comparable(run) != comparable(runs[0]):
            print(f"{path}: another text, code or configuration than {paths[0]}", file=sys.stderr)
            return 2
    values: dict[str, dict[int, float]] = {}  # role -> seed -> perplexity
    for run in runs:
        for role in ROLES:
            for row in run["benches"]["ppl"]["details"].get(role, {}).get("seeds", []):
                if values.setdefault(role, {}).setdefault(row["seed"], row["ppl"]) != row["ppl"]:
                    print(f"seed {row['seed']} has two perplexities of the {role}", file=sys.stderr)
                    return 2
    report(values)
    return 0


def comparable(run: dict) -> str:
    """What must be the same in all runs, as text."""
    config = copy.deepcopy(run["config"])
    for key in ("seed", "output", "cache_dir"):
        config.pop(key)
    config["data"].pop("path")
    config["bench"] = {"ppl": {k: v for k, v in config["bench"]["ppl"].items() if k != "seeds"}}
    data, commit = run["data"]["fingerprint"], run["environment"].get("git", {})
    return json.dumps([config, data, commit], sort_keys=True)


def report(values: dict[str, dict[int, float]]) -> None:
    for role, by_seed in values.items():
        found = [by_seed[seed] for seed in sorted(by_seed)]
        sd = f"{statistics.stdev(found):.3f}" if len(found) > 1 else "-"
        texts = ", ".join(f"{x:.3f}" for x in found)
        print(
            f"{role:9}  seeds {sorted(by_seed)}: {texts}; mean {statistics.fmean(found):.3f}, sd {sd}"
        )
    for role in ROLES[1:]:
        shared = sorted(set(values.get(role, {})) & set(values["candidate"]))
        logs = [math.log(values["candidate"][seed] / values[role][seed]) for seed in shared]
        if logs:
            found = ratio_interval(logs)
            text = (
                f"95 % interval {found.low:.4f} to {found.high:.4f}"
                if found
                else "one seed: no interval"
            )
            print(
                f"candidate / {role}: {math.exp(statistics.fmean(logs)):.4f} over seeds {shared}; {text}"
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
