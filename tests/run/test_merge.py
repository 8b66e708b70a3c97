"""Runs of one seed or one model each, merged: as one run of all, or refused with the difference."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from commands import SMALL, Command
from phasebench.results.file import schema
from phasebench.run.merge import main

WORDS = SMALL.format(tokenizer="auto") + " scale=laptop train.steps=6 train.epochs=null"
PPL = "bench=ppl bench.ppl.seq=16 bench.ppl.batch=32 bench.ppl.upper_target=9 bench.ppl.target=9"
SAME = ("stage2_ppl", "stage1_ppl", "ppl_ratio", "ppl_diff_pct", "ppl_pass", "ppl_target")


EVERY = {
    "all": "bench.ppl.seeds=[0,1]",
    "0": "seed=0",
    "1": "bench.ppl.seeds=[1]",
    "stage2": "model=stage2 bench.ppl.baseline=null bench.ppl.seeds=[0,1]",
    "stage1": "model=stage1 bench.ppl.baseline=null bench.ppl.seeds=[0,1]",
}


def measured(command: Command, folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The folders of runs of both models and seeds, of one seed, and of one model."""
    for name in names:
        outcome = command(f"{PPL} {WORDS} {EVERY[name]} hydra.run.dir={folder / name}")
        assert outcome.results, outcome.err
    return {name: folder / name for name in names}


def read(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "results.json").read_text())
    jsonschema.validate(found, schema())
    return found


def test_merged_runs_are_as_one_run_of_all(command: Command, tmp_path: Path) -> None:
    runs = measured(command, tmp_path, list(EVERY))
    wanted = read(runs["all"])
    for names in (("0", "1"), ("stage2", "stage1")):
        code = main([*(str(runs[name]) for name in names), "--output", str(tmp_path / "merged")])
        found = read(tmp_path / "merged")
        assert {key: found[key] for key in SAME} == {key: wanted[key] for key in SAME}
        mine, theirs = (run["benches"]["ppl"]["metrics"] for run in (found, wanted))
        lost = {"above_source_floor", "floor_ppl"}  # the text's entropy is not in the results
        assert {k: v for k, v in theirs.items() if k not in lost} == mine
        assert found["config"]["bench"]["ppl"] == wanted["config"]["bench"]["ppl"]
        assert f"merged from 2 runs: {runs[names[0]]}" in found["benches"]["ppl"]["notices"][-1]
        assert code == (0 if found["all_pass"] else 2)


BUDGET = (
    "bench=budget bench.budget.budgets=[1,2] train.schedule=wsd bench.budget.seq=16 "
    "bench.budget.batch=32 train.batch=16 "
    + WORDS.replace("train.steps=6 train.epochs=null", "").replace("train.batch=4 ", "")
)
PARTS = {
    "whole": "bench.budget.seeds=[0,1]",
    "stage2": "bench.budget.baseline=null bench.budget.seeds=[0,1]",
    "first": "model=stage1 bench.budget.baseline=null seed=0",
    "second": "model=stage1 bench.budget.baseline=null bench.budget.seeds=[1]",
}


def test_budgets_of_one_model_or_seed_are_as_one_run_of_all(
    command: Command, tmp_path: Path
) -> None:
    for name, words in PARTS.items():
        assert command(f"{BUDGET} {words} hydra.run.dir={tmp_path / name}").results
    wanted = read(tmp_path / "whole")["benches"]["budget"]
    merged = [str(tmp_path / name) for name in ("stage2", "first", "second")]
    main([*merged, "--output", str(tmp_path / "merged")])
    found = read(tmp_path / "merged")["benches"]["budget"]
    timed = {name for name in wanted["metrics"] if "equal_time" in name}  # trained once, cached
    for name, metric in wanted["metrics"].items():
        assert name in timed or found["metrics"][name] == metric
    assert timed <= set(found["metrics"])
    assert found["metrics"]["ratio_equal_tokens_high"]["value"] is not None

    # a model of shorter budgets than the other; then of one seed only
    shorter = read(tmp_path / "stage2")
    rows = shorter["benches"]["budget"]["details"]["candidate"]["trainings"]
    long = [row for row in rows if row["epochs"] == 2]
    for row, name in zip(long, ("refused", "shorter"), strict=True):
        rows.remove(row)
        (tmp_path / "stage2" / "results.json").write_text(json.dumps(shorter))
        main([*merged, "--output", str(tmp_path / name)])
    assert not (tmp_path / "refused").exists()
    config, levels = (read(tmp_path / "shorter")[key] for key in ("config", "benches"))
    assert config["bench"]["budget"]["budgets"] == [1, 2]
    (seed0, seed1) = (
        {(row["seed"], row["epochs"]): row["point"]["test"] for row in detail["trainings"]}
        for detail in wanted["details"].values()
    )
    logs = [seed0[seed, 1] - seed1[seed, 1] for seed in (0, 1)]
    ratio = levels["budget"]["metrics"]["ratio_equal_tokens"]["value"]
    assert ratio == pytest.approx(math.exp(sum(logs) / 2))


def changed(folder: Path, to: Path, key: str, value: Any) -> Path:
    found = read(folder)
    *groups, last = key.split(".")
    place: Any = found
    for name in groups:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    to.mkdir()
    (to / "results.json").write_text(json.dumps(found))
    return to


CASES = [
    ("config.train.lr", 0.5, "train.lr=0.5"),
    ("config.bench.ppl.baseline.hidden", 5, "bench.ppl.baseline.hidden=5"),
    ("data.fingerprint", "other", "data=other"),
    ("environment.code", "other", "code=other"),
    ("environment.gpu", {"name": "other"}, "GPU=other"),
    ("benches.ppl.details.candidate.seeds.0.nats", 1.0, "another perplexity"),
    ("benches.ppl.status", "failed", "results.json"),
]


def test_what_does_not_belong_together_is_refused(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = measured(command, tmp_path, ["0"])["0"]
    for i, (key, value, said) in enumerate(CASES):
        other = changed(run, tmp_path / f"other{i}", key, value)
        assert main([str(run), str(other), "--output", str(tmp_path / "merged")]) == 2
        assert said in capfd.readouterr().err
    assert not (tmp_path / "merged").exists()
