"""One trunk, many budgets: a branch equals a training made alone, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from phasebench.training.checkpoint import History, weights
from phasebench.training.optimizer import decay_start, learning_rate
from phasebench.training.trunk import Trunk
from tiny import TinyModel, pattern, recipe, tiny_model, train_tiny

WSD: dict[str, Any] = {"schedule": "wsd", "decay": 0.25, "average": "ema", "average_decay": 0.9}


class Killed(BaseException):
    """Stands for a signal."""


def counting(read: list[int], killed_at: int | None = None) -> Any:
    """Batches that remember which steps asked for them."""

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        if step == killed_at:
            raise Killed
        read.append(step)
        return pattern(step)

    return batches


def branch(
    folder: Path, steps: int, read: list[int], killed_at: int | None = None
) -> tuple[TinyModel, History]:
    model = tiny_model()
    history = train_tiny(
        model,
        folder / f"w{steps}.safetensors",
        WSD | {"steps": steps},
        batches=counting(read, killed_at),
        trunk=Trunk(folder, "a" * 64),
    )
    return model, history


def alone(folder: Path, steps: int) -> TinyModel:
    model = tiny_model()
    train_tiny(model, folder / f"alone{steps}.safetensors", WSD | {"steps": steps})
    return model


def equal(one: TinyModel, other: TinyModel) -> bool:
    return all(torch.equal(x, weights(other)[name]) for name, x in weights(one).items())


def test_the_rate_is_constant_and_then_falls_in_a_line() -> None:
    made = recipe(steps=40, warmup=4, lr=1.0, final_lr=0.1, schedule="wsd", decay=0.25)
    rates = [learning_rate(step, made) for step in range(40)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:31] == [1.0] * 27
    assert rates[39] == pytest.approx(0.1)
    assert rates[31] - rates[32] == pytest.approx(rates[38] - rates[39])


def test_a_rate_before_the_decay_depends_on_no_budget() -> None:
    short, long = (recipe(schedule="wsd", decay=0.25, steps=steps) for steps in (40, 400))
    for step in range(decay_start(short)):
        assert learning_rate(step, short) == learning_rate(step, long)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_branches_are_trainings_made_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    monkeypatch.setitem(WSD, "optimizer", optimizer)
    read: list[int] = []
    for steps in (20, 40, 80):
        model, history = branch(tmp_path, steps, read)
        assert equal(model, alone(tmp_path, steps))
        assert history.seconds > 0
    assert len(read) == 20 + (40 - 15) + (80 - 30)
    assert [path.name for path in tmp_path.glob("trunk-*")] == [f"trunk-{'a' * 16}-60.safetensors"]


def test_a_longer_trunk_is_no_beginning_of_a_shorter_training(tmp_path: Path) -> None:
    read: list[int] = []
    branch(tmp_path, 80, read)
    model, _ = branch(tmp_path, 20, read)
    assert read[80:] == list(range(20))
    assert equal(model, alone(tmp_path, 20))


@pytest.mark.parametrize("killed_at", [12, 17, 31, 36])
def test_a_kill_loses_no_branch(tmp_path: Path, killed_at: int) -> None:
    read: list[int] = []
    for steps in (20, 40):
        try:
            branch(tmp_path, steps, read, killed_at)
        except Killed:
            read.append(-1)
    assert read.count(-1) >= 1
    models = [branch(tmp_path, steps, read)[0] for steps in (20, 40)]
    assert equal(models[0], alone(tmp_path, 20))
    assert equal(models[1], alone(tmp_path, 40))


def test_a_trunk_of_another_recipe_is_set_aside(tmp_path: Path) -> None:
    read: list[int] = []
    branch(tmp_path, 20, read)
    file = Trunk(tmp_path, "a" * 64).path(15)
    other = Trunk(tmp_path, "a" * 16 + "b" * 48)
    assert other.latest(30) == file
    model = tiny_model()
    history = train_tiny(model, tmp_path / "w.safetensors", WSD | {"steps": 40}, trunk=other)
    assert history.resumed_from is None
    assert equal(model, alone(tmp_path, 40))
