"""Steps with a margin and a selection: phases, parts, recordings, going on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from phasebench.config import DialecticConfig, EntropicConfig, ModelConfig, TrainConfig, to_config
from phasebench.config.fields import ConfigError
from phasebench.models import LanguageModel, build_model
from phasebench.training.checkpoint import weights
from phasebench.training.step import TrainStep, objective_at
from tiny import pattern, recipe, train_tiny

CPU = torch.device("cpu")
OWN = {"dialectic": DialecticConfig(0.02), "entropic": EntropicConfig("excess", keep=0.5)}


def made(device: str = "cpu") -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(name="stage1", dim=8, blocks=1, heads=2, hidden=8)
    return build_model(config, 11).to(device)


def test_all_tokens_are_scored_at_the_start_and_at_the_end() -> None:
    own = recipe(steps=20, **OWN)
    phases = [objective_at(step, own) for step in range(20)]
    assert [phase.keep for phase in phases] == [1.0] * 2 + [0.5] * 12 + [1.0] * 6
    assert {phase.margin for phase in phases} == {0.02}


def test_smooth_targets_are_of_every_phase_and_not_for_a_margin_too() -> None:
    own = recipe(steps=20, label_smoothing=0.1, entropic=OWN["entropic"])
    assert {objective_at(step, own).smoothing for step in range(20)} == {0.1}
    with pytest.raises(ConfigError, match="and is not for both") as caught:
        to_config({"train": {"label_smoothing": 0.1, "dialectic": {"margin": 0.01}}})
    assert caught.value.key == "train.label_smoothing"


@pytest.mark.parametrize("score", ["excess", "surprisal", "entropy", "random"])
def test_a_killed_selection_goes_on_to_the_same_weights(tmp_path: Path, score: str) -> None:
    changes: dict[str, Any] = {**OWN, "entropic": EntropicConfig(score, keep=0.5), "steps": 20}
    ends = []
    for kill in (None, 10):

        def batches(step: int, kill: int | None = kill) -> Any:
            if step == kill:
                raise KeyboardInterrupt
            return pattern(step)

        path = tmp_path / f"{kill}.safetensors"
        if kill:
            with pytest.raises(KeyboardInterrupt):
                train_tiny(made(), path, changes, batches=batches)  # type: ignore[arg-type]
        model = made()
        train_tiny(model, path, changes)  # type: ignore[arg-type]
        ends.append(weights(model))
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_the_mean_is_over_the_scored_tokens_of_all_parts() -> None:
    inputs, targets = torch.randint(11, (2, 4, 6), generator=torch.Generator().manual_seed(1))
    losses = {}
    for parts in (1, 2):
        own = recipe(steps=10, batch=4, accumulate=parts, **OWN)
        model = made().eval()
        losses[parts] = float(TrainStep(model, own, 0, CPU)(5, (inputs, targets))[0])
    by_part = [
        made().eval().loss(x, y, 64, objective_at(5, recipe(steps=10, **OWN)))
        for x, y in zip(inputs.chunk(2), targets.chunk(2), strict=True)
    ]
    assert losses[2] == pytest.approx(sum(n.item() for n, _ in by_part) / 12)
    assert [int(count) for _, count in by_part] == [6, 6]
    assert losses[1] != losses[2]  # ranked within each part


@pytest.mark.gpu
@pytest.mark.parametrize("score", ["off", "excess", "random"])
def test_recorded_steps_are_the_steps_in_every_phase(score: str) -> None:
    tokens = torch.randint(0, 11, (30, 4, 17), generator=torch.Generator().manual_seed(3))
    own: dict[str, Any] = {**OWN, "entropic": EntropicConfig(score, keep=0.5, warmup=0.3)}
    losses = []
    for graph in (False, True):
        sizes = {"batch": 4, "seq": 16, "steps": 30, "warmup": 2, "precision": "bf16"}
        update = TrainStep(
            made("cuda"), TrainConfig(**sizes, **own, graph=graph), 0, torch.device("cuda")
        )
        losses.append([float(update(i, (x[:, :-1], x[:, 1:]))[0]) for i, x in enumerate(tokens)])
        assert update.first_bad_step() == 0
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert len(set(losses[1])) == 30


@pytest.mark.parametrize(
    ("key", "value"), [("dialectic.margin", -0.1), ("entropic.keep", 0.0), ("entropic.keep", 1.1)]
)
def test_values_out_of_range_are_refused_by_their_key(key: str, value: float) -> None:
    group, name = key.split(".")
    with pytest.raises(ConfigError) as caught:
        to_config({"train": {group: {name: value}}})
    assert caught.value.key == f"train.{key}"
