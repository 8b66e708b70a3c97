"""A tuning's best settings: what is written, and that a run takes them and names the trials."""

from __future__ import annotations

import json
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import made
from paths import ROOT
from phasebench.config import MODELS, to_config
from phasebench.run import hydra_app
from phasebench.run.overrides import prepare
from phasebench.run.sweep.point import Point
from phasebench.run.tuned import write

RATES = (1e-3, 2e-3)


def tried(folder: Path, values: dict[tuple[str, float], float | None]) -> list[Point]:
    """The points of a sweep whose results have these perplexities, by model and rate."""
    points = []
    for (model, rate), value in values.items():
        tree = {"model": {"name": model, "lr": rate}, "bench": {"ppl": {}}}
        point = Point(tree, (), (f"model={model}", f"model.lr={rate}"))
        (folder / point.name).mkdir()
        if value is not None:
            results = made.content(metrics={"ppl.candidate_ppl": value})
            (folder / point.name / "results.json").write_text(json.dumps(results))
        points.append(point)
    return points


def test_the_best_of_each_model_is_written(tmp_path: Path) -> None:
    ppl = {("stage2", 1e-3): 9.0, ("stage2", 2e-3): 8.0, ("stage1", 1e-3): 7.0, ("stage1", 2e-3): 8}
    told = write(tmp_path, tried(tmp_path, ppl), "candidate_ppl")
    assert "stage2.yaml: candidate_ppl 8, best of 2 (model-stage2_lr-0.002" in told
    found = {file.stem: OmegaConf.load(file) for file in (tmp_path / "tuned").iterdir()}
    assert found == {"stage2": {"trials": 2, "lr": 2e-3}, "stage1": {"trials": 2, "lr": 1e-3}}
    words = ["--config-dir", str(tmp_path), "+tuned@model=stage2", "bench=ppl"]
    words = prepare([*words, "+tuned@bench.ppl.baseline=stage1"])[2:]
    hydra_app.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        search = f"hydra.searchpath=[file://{tmp_path}]"
        config = to_config(hydra_app.chosen(compose("config", overrides=[*words, search]), words))
    baseline = config.bench["ppl"].baseline
    assert (config.model.lr, config.model.trials) == (2e-3, 2)
    assert (baseline.name, baseline.lr, baseline.trials) == ("stage1", 1e-3, 2)


def test_a_model_with_trials_missing_has_no_best(tmp_path: Path) -> None:
    ppl = {("stage2", 1e-3): 9.0, ("stage2", 2e-3): None}
    told = write(tmp_path, tried(tmp_path, ppl), "candidate_ppl")
    assert told == "tuned: stage2: 1 of 2 trials have no candidate_ppl"
    assert not (tmp_path / "tuned").exists()


def test_every_model_has_the_same_trials() -> None:
    preset = OmegaConf.load(ROOT / "conf" / "sweep" / "tune.yaml").hydra.sweeper
    assert set(preset.params.model.split(",")) <= set(MODELS)
    keys = {word.partition("=")[0] for line in preset.runs for word in line.split()}
    assert "model" not in keys
    assert all(key.startswith("model.") for key in keys)  # what the written files can hold
