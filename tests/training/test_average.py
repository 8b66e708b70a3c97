"""Averages of the weights: what is validated and stored, and that the training itself does not
notice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from phasebench.training.average import Average
from phasebench.training.checkpoint import load, weights
from tiny import pattern, recipe, tiny_model, train_tiny


class Killed(BaseException):
    """Stands for a signal."""


def every_step(path: Path, changes: dict[str, Any]) -> list[dict[str, Tensor]]:
    """The live weights after each step of a training without an average."""
    model, seen = tiny_model(), []

    def watch(step: int) -> tuple[Tensor, Tensor]:
        seen.append({name: w.detach().clone() for name, w in weights(model).items()})
        return pattern(step)

    train_tiny(model, path, changes, batches=watch)
    return [*seen[1:], {name: w.detach().clone() for name, w in weights(model).items()}]


def mean_of(snapshots: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([s[name] for s in snapshots]).mean(0) for name in snapshots[0]}


def assert_close(model: Any, wanted: dict[str, Tensor]) -> None:
    for name, w in weights(model).items():
        torch.testing.assert_close(w.detach(), wanted[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("start", "first"), [(0.0, 0), (0.5, 20), (0.9, 35), (1.0, 39)])
def test_a_tail_average_is_the_mean_of_the_weights_after_its_start(
    tmp_path: Path, start: float, first: int
) -> None:
    live = every_step(tmp_path / "live.safetensors", {})
    model = tiny_model()
    history = train_tiny(
        model, tmp_path / "w.safetensors", {"average": "tail", "average_start": start}
    )
    assert_close(model, mean_of(live[first:]))
    assert history.average == f"tail from step {first + 1}"
    stored = load(tmp_path / "w.safetensors").tensors
    assert sorted(stored) == sorted(weights(model))
    assert all(torch.equal(stored[name], w) for name, w in weights(model).items())


def test_an_exponential_average_forgets_the_start_at_once(tmp_path: Path) -> None:
    live = every_step(tmp_path / "live.safetensors", {})
    wanted = live[0]
    for n, now in enumerate(live[1:], 2):
        share = max(9 / (n + 9), 1 - 0.8)
        wanted = {name: (1 - share) * old + share * now[name] for name, old in wanted.items()}
    model = tiny_model()
    history = train_tiny(
        model, tmp_path / "w.safetensors", {"average": "ema", "average_decay": 0.8}
    )
    assert_close(model, wanted)
    assert history.average == "ema 0.8 from step 1"


def test_the_average_is_what_is_validated_and_the_training_does_not_notice(tmp_path: Path) -> None:
    live = every_step(tmp_path / "live.safetensors", {})
    model = tiny_model()
    seen: list[dict[str, Tensor]] = []

    def validate() -> float:
        seen.append({name: w.detach().clone() for name, w in weights(model).items()})
        return 1.0

    probed: list[dict[str, Any]] = []

    def probe() -> dict[str, Any]:
        probed.append({name: w.detach().clone() for name, w in weights(model).items()})
        return {"extra": len(probed)}

    history = train_tiny(
        model, tmp_path / "w.safetensors", {"average": "tail"}, validate=validate, probe=probe
    )
    for step, found, other in zip((10, 20, 30, 40), seen, probed, strict=True):
        wanted = mean_of(
            live[:step]
        )  # live ones of a training that knew no average: so it changes nothing
        for name, w in found.items():
            torch.testing.assert_close(w, wanted[name], rtol=1e-5, atol=1e-7)
            assert torch.equal(w, other[name])
    assert [record["extra"] for record in history.validations] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["ema", "tail"])
@pytest.mark.parametrize("at", [8, 9, 25, 39])
def test_a_killed_average_goes_on_bit_for_bit(tmp_path: Path, kind: str, at: int) -> None:
    changes = {"average": kind, "average_decay": 0.9, "average_start": 0.2}
    whole, resumed, path = tiny_model(), tiny_model(seed=5), tmp_path / "w.safetensors"
    expected = train_tiny(whole, tmp_path / "whole.safetensors", changes)

    def killing(step: int) -> tuple[Tensor, Tensor]:
        if step == at:
            raise Killed
        return pattern(step)

    with pytest.raises(Killed):
        train_tiny(tiny_model(), path, changes, batches=killing)
    history = train_tiny(resumed, path, changes)
    assert history.resumed_from == at // 7 * 7
    assert history.validations == expected.validations
    assert all(torch.equal(w, weights(resumed)[name]) for name, w in weights(whole).items())


def test_the_best_weights_are_averaged_ones(tmp_path: Path) -> None:
    live = every_step(tmp_path / "live.safetensors", {})
    model, nats = tiny_model(), iter([3.0, 1.0, 2.0, 2.0])
    history = train_tiny(
        model,
        tmp_path / "w.safetensors",
        {"average": "tail", "patience": 9},
        validate=lambda: next(nats),
    )
    assert (history.weights, history.best_step) == ("best", 20)
    assert_close(model, mean_of(live[:20]))


def test_early_in_a_training_the_average_lags_by_a_ninth_of_it() -> None:
    """Weights that move steadily: a mean of all would lag by half of the training."""
    model = tiny_model()
    average = Average(model, recipe(average="ema", average_decay=0.9999, steps=1000))
    for step in range(1, 901):
        with torch.no_grad():
            model.hidden.bias.fill_(float(step))
        average.update(step)
    with average.applied():
        lag = 900 - model.hidden.bias[0].item()
    assert lag == pytest.approx(900 / 10, rel=0.05)


def test_off_does_nothing() -> None:
    model = tiny_model()
    before = {name: w.detach().clone() for name, w in weights(model).items()}
    average = Average(model, recipe())
    average.update(10)
    with average.applied():
        assert all(torch.equal(w, before[name]) for name, w in weights(model).items())
    assert (average.means, average.describe()) == ({}, "")
