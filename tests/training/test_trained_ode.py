"""Trained weights run by another ode than in training: numbers, labels, what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from commands import TINY, Command, refuses
from phasebench.config import (
    ConfigError,
    ModelConfig,
    OdeConfig,
    TrainedOdeConfig,
    to_config,
)
from phasebench.run.hydra_app import steps_in
from phasebench.training import checkpoint

AS_TRAINED = "model.ode.steps=2 model.ode.dt=0.5 model.ode.integrator=leapfrog"
OTHERWISE = "model.ode.steps=4 model.ode.dt=0.25 model.ode.integrator=yoshida4"
TRAINED = "model.trained_ode.steps=2 model.trained_ode.dt=0.5 model.trained_ode.integrator=leapfrog"
PPL = "bench=ppl bench.ppl.baseline=null bench.ppl.batch=16 bench.ppl.seq=16"
ENERGY = "bench=energy bench.energy.batch=8 bench.energy.seq=16 bench.energy.steps=10"


def weights(folder: Path) -> Path:
    (found,) = (folder / "outputs" / "cache" / "weights").glob("stage2*.safetensors")
    return found


def claiming(file: Path, to: Path, **entries: str) -> Path:
    """A copy whose identity says that it was trained otherwise."""
    found = checkpoint.load(file)
    entries = {f"model.ode.{key}": value for key, value in entries.items()}
    dataclasses.replace(found, identity=found.identity | entries).save(to, {})
    return to


def test_the_same_weights_are_scored_by_the_other_ode_and_say_so(
    command: Command, tmp_path: Path
) -> None:
    own = command(PPL, *TINY, AS_TRAINED).results[0]
    other = command(PPL, *TINY, OTHERWISE, TRAINED).results[0]
    file = weights(tmp_path)  # one: nothing was trained for the second
    assert other["stage2_ppl"] != own["stage2_ppl"]
    candidate = other["benches"]["ppl"]["details"]["candidate"]
    assert (candidate["weights"]["file"], candidate["weights"]["origin"]) == (file.name, "cache")
    assert candidate["weights"]["trained_ode"] == {"steps": 2, "dt": 0.5, "integrator": "leapfrog"}
    assert [
        "trained with 2 steps of 0.5 (leapfrog)" in n for n in other["benches"]["ppl"]["notices"]
    ] == [True]
    assert "trained_ode" not in own["benches"]["ppl"]["details"]["candidate"]["weights"]
    assert own["benches"]["ppl"]["notices"] == []
    claimed = claiming(
        file, tmp_path / "claimed.safetensors", steps="4", dt="0.25", integrator="yoshida4"
    )
    as_if = command(PPL, *TINY, OTHERWISE, f"model.checkpoint={claimed}").results[0]
    assert as_if["stage2_ppl"] == other["stage2_ppl"]


def test_weights_that_are_not_there_are_trained_by_the_ode_of_training(
    command: Command, tmp_path: Path
) -> None:
    other = command(PPL, *TINY, OTHERWISE, TRAINED).results[0]
    assert other["benches"]["ppl"]["details"]["candidate"]["weights"]["origin"] == "trained"
    assert checkpoint.load(weights(tmp_path)).identity["model.ode.steps"] == "2"
    again = command(PPL, *TINY, OTHERWISE, TRAINED).results[0]
    assert again["stage2_ppl"] == other["stage2_ppl"]


def test_a_baseline_with_the_same_weights_as_they_were_trained(command: Command) -> None:
    words = [
        *TINY,
        OTHERWISE,
        TRAINED,
        "bench=ppl",
        "model@bench.ppl.baseline=stage2",
        "bench.ppl.baseline.hidden=16",
    ]
    words += [
        "bench.ppl.batch=16",
        "bench.ppl.seq=16",
        "bench.ppl.baseline.ode.steps=2",
        "bench.ppl.baseline.ode.dt=0.5",
        "bench.ppl.baseline.ode.integrator=leapfrog",
    ]
    (results,) = command(*words).results
    own = command(PPL, *TINY, AS_TRAINED).results[0]
    metrics = results["benches"]["ppl"]["metrics"]
    assert (
        metrics["baseline_ppl"]["value"] == own["stage2_ppl"] != metrics["candidate_ppl"]["value"]
    )
    assert metrics["parameter_ratio"]["value"] == 1


def test_a_checkpoint_must_be_of_the_ode_that_is_named(command: Command, tmp_path: Path) -> None:
    command(ENERGY, *TINY, AS_TRAINED)
    given = f"model.checkpoint={weights(tmp_path)}"
    (results,) = command(ENERGY, *TINY, OTHERWISE, TRAINED, given).results
    assert results["benches"]["energy"]["details"]["weights"]["trained_ode"]["steps"] == 2
    refuses(
        command(ENERGY, *TINY, OTHERWISE, given),
        "model.checkpoint",
        "model.ode.steps is 2 in the file, 4 here",
        "fix: ",
        "model.trained_ode",
        "model.checkpoint=null",
    )
    refuses(
        command(ENERGY, *TINY, OTHERWISE, TRAINED, given, "model.trained_ode.dt=0.25"),
        "model.ode.dt is 0.5",
    )


# of every key that acts on Stage 2's weights, a value that is no default
CHANGED = {
    "dim": 24,
    "blocks": 3,
    "heads": 3,
    "hidden": 40,
    "coordinates": "learned",
    "free_motion": 3.0,
    "rope_base": 99.0,
    "embedding_scale": 2.0,
    "lr": 0.01,
    "weight_decay": 0.3,
    "dropout.embedding": 0.1,
    "dropout.input": 0.2,
    "dropout.block": 0.3,
    "dropout.output": 0.4,
    "dropout.attention": 0.5,
    "dropout.locked": True,
    "ode.gradient": "backprop",
    "ode.on_overflow": "checkpoint",
    "ode.potential": "gelu",
    "ode.coupling": 0.5,
    "ode.normalize": False,
    "ode.eps": 0.3,
    "recompute": ["head"],
    "stream": "reversible",
    "checkpoint": "FILE",
}


def test_the_baseline_of_the_sweep_has_the_weights_of_its_model(command: Command) -> None:
    words = [
        f"model.{key}={str(value).translate({39: None})}" for key, value in CHANGED.items()
    ]  # no quotes
    tree = yaml.safe_load(
        command("+sweep=discretisation scale=laptop", *words, "--cfg job --resolve").out
    )
    model, baseline = leaves(tree["model"]), leaves(tree["bench"]["ppl"]["baseline"])
    assert {key: model[key] for key in CHANGED} == CHANGED
    given = {
        key.removeprefix("trained_"): value
        for key, value in model.items()
        if key.startswith("trained_ode.")
    }
    # how many trials tuned a model changes nothing; the rest is of models that are no Stage 2
    told = {"name", "trials", "architecture"}
    told |= {key for key in model if key.startswith(("koopman.", "mera."))}
    assert set(model) - told == {*CHANGED, *given, *(f"trained_{key}" for key in given)}
    assert {key: baseline[key] for key in CHANGED} == CHANGED
    assert given == {"ode.steps": 5, "ode.dt": 0.2, "ode.integrator": "leapfrog"}
    assert {key: baseline[key] for key in given} == given


def leaves(tree: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Values by dotted key; the learned positions are GPT-2's, the shear Stage 1's."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}": value}
    return {key: value for key, value in found.items() if key not in ("positions", "shear")}


def test_the_ode_of_training_is_the_own_one_where_nothing_is_named() -> None:
    own = OdeConfig(steps=4, dt=0.25, eps=0.75)
    assert ModelConfig(ode=own).as_trained() == ModelConfig(ode=own)
    assert ModelConfig(ode=own, trained_ode=TrainedOdeConfig(dt=0.5)).as_trained().ode == OdeConfig(
        4, 0.5, eps=0.75
    )
    tree: dict[str, Any] = {"model": {"trained_ode": {"integrator": "rk4"}}, "bench": {"ppl": {}}}
    with pytest.raises(ConfigError, match=r"model\.trained_ode\.integrator=rk4"):
        to_config(tree)


@pytest.mark.parametrize(("time", "dt"), [(1.0, 0.3), (1.0, 2.0), (1.0, 0.0), (1.0, -0.5)])
def test_a_step_that_does_not_divide_the_time_is_refused(time: float, dt: float) -> None:
    with pytest.raises(ValueError, match="divides it"):
        steps_in(time, dt)
