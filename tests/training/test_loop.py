from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from phasebench.config import ConfigError
from phasebench.models.objective import PLAIN, Objective
from phasebench.training.checkpoint import (
    History,
    copy_weights,
    load,
    load_weights,
    weights,
)
from phasebench.training.loop import TrainingDiverged, partial_path
from phasebench.training.optimizer import (
    learning_rate,
    make_optimizer,
    restore_state,
    state_tensors,
)
from phasebench.training.progress import StepReport
from phasebench.training.scoring import NotFinite
from phasebench.training.step import TrainStep, step_seed
from tiny import CPU, IDENTITY, TinyModel, pattern, recipe, tiny_model, train_tiny

torch.set_num_threads(1)


class Killed(BaseException):
    """Stands for a signal."""


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.validations: list[tuple[int, float]] = []

    def on_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def on_validation(self, step: int, perplexity: float) -> None:
        self.validations.append((step, perplexity))

    def close(self) -> None:
        raise AssertionError("its owner closes an observer, not the training")


def killing(step: int) -> Any:
    """Batches that end in a kill before step number `step` is done."""

    def batches(n: int) -> tuple[Tensor, Tensor]:
        if n == step:
            raise Killed
        return pattern(n)

    return batches


def essence(history: History) -> dict[str, Any]:
    """What must not depend on interruptions."""
    steps = [{k: v for k, v in record.items() if k != "tokens_per_s"} for record in history.steps]
    kept = dataclasses.asdict(history)
    return {
        **{k: v for k, v in kept.items() if k not in ("seconds", "resumed_from")},
        "steps": steps,
    }


def assert_equal_weights(one: TinyModel, other: TinyModel) -> None:
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name


def one_update(model: TinyModel, **changes: Any) -> tuple[Tensor, Tensor]:
    return TrainStep(model, recipe(**changes), seed=0, device=CPU)(0, pattern(0))


# learning


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_loss_falls_on_a_learnable_pattern(tmp_path: Path, precision: str) -> None:
    model = tiny_model()
    history = train_tiny(model, tmp_path / "w.safetensors", {"steps": 100, "precision": precision})
    losses = [record["loss"] for record in history.steps]
    assert losses[0] > 2.0
    assert losses[-1] < 0.7 * losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert (history.stopped, history.weights, history.resumed_from) == ("budget", "final", None)


def test_history_and_file(tmp_path: Path) -> None:
    path, model, seen = tmp_path / "new" / "w.safetensors", tiny_model(), Recorder()
    random = torch.get_rng_state()
    history = train_tiny(model, path, {"steps": 25}, observers=[seen])
    assert [record["step"] for record in history.steps] == [1, 10, 20, 25]
    assert [record["step"] for record in history.validations] == [10, 20, 25]
    assert [report.step for report in seen.reports] == [1, 10, 20, 25]
    assert seen.reports[-1].seconds_left == 0.0
    assert [step for step, _ in seen.validations] == [10, 20, 25]
    assert (
        history.steps[-1]["lr"] == learning_rate(24, recipe(steps=25)) == pytest.approx(0.02 * 0.1)
    )
    assert history.best_step == min(history.validations, key=lambda v: v["nats_per_token"])["step"]
    file = load_weights(tiny_model(), path, IDENTITY)
    assert (file.history, file.step, file.identity) == (history, 25, IDENTITY)
    assert sorted(load(path).tensors) == sorted(weights(model))
    assert os.listdir(path.parent) == [path.name]
    assert torch.equal(torch.get_rng_state(), random)  # the caller's random numbers are its own


def test_training_mode_is_put_back(tmp_path: Path) -> None:
    model = tiny_model().eval()
    modes: list[bool] = []
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    train_tiny(model, tmp_path / "w.safetensors", {"steps": 2}, validate=None)
    assert modes == [True, True]
    assert not model.training


# one update


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_gradient_equals_that_of_the_whole_batch(parts: int) -> None:
    def uneven(step: int) -> tuple[Tensor, Tensor]:
        inputs, targets = pattern(step)
        targets[:3, 2:] = -100  # so that a mean of the parts' means would be wrong
        return inputs, targets

    whole, split = tiny_model(dropout=0.0).double(), tiny_model(dropout=0.0).double()
    one = TrainStep(whole, recipe(clip=1e9), seed=0, device=CPU)(0, uneven(0))
    other = TrainStep(split, recipe(clip=1e9, accumulate=parts), seed=0, device=CPU)(0, uneven(0))
    torch.testing.assert_close(other, one, rtol=1e-13, atol=0.0)
    for p, q in zip(split.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-15)


def test_loss_is_the_mean_over_scored_tokens() -> None:
    model = tiny_model(dropout=0.0)
    nats, count = model.loss(*pattern(0), 64)
    assert count == 8 * 5
    loss, _ = one_update(model)
    assert float(loss) == pytest.approx(float(nats.detach()) / 40, rel=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_clipping_bounds_the_unscaled_gradient(precision: str) -> None:
    model = tiny_model()
    _, norm = one_update(model, clip=1e-3, precision=precision)
    assert float(norm) > 0.1
    total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(1e-3, rel=1e-3)


def test_clipping_leaves_small_gradients_alone() -> None:
    model = tiny_model()
    _, norm = one_update(model, clip=1e6)
    total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(float(norm), rel=1e-6)


def test_fp16_scaler_skips_infinite_gradients_without_calling_it_divergence() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in weights(model).items()}
    update = TrainStep(model, recipe(precision="fp16"), seed=0, device=CPU)
    update.scaler.load_state_dict({**update.scaler.state_dict(), "scale": 2.0**127})
    _, norm = update(0, pattern(0))
    assert not torch.isfinite(norm)
    assert update.first_bad_step() == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(model).items())
    assert update.scaler.state_dict()["scale"] == 2.0**126


def test_the_state_of_optimizer_and_scaler_decides_its_next_steps() -> None:
    one, other = tiny_model(), tiny_model(seed=1)
    changes = recipe(precision="fp16")
    update = TrainStep(one, changes, seed=0, device=CPU)
    update.scaler.load_state_dict({**update.scaler.state_dict(), "scale": 2.0**127})
    for step in range(3):
        update(step, pattern(step))
    tensors, scaler = state_tensors(update.optimizer), update.scaler.state_dict()
    again = TrainStep(other, changes, seed=0, device=CPU)
    restore_state(again.optimizer, tensors)
    again.scaler.load_state_dict(scaler)
    copy_weights(other, weights(one))
    assert again.scaler.state_dict() == scaler
    assert scaler["scale"] == 2.0**124
    for step in range(3, 6):
        assert float(update(step, pattern(step))[0]) == float(again(step, pattern(step))[0])
    assert_equal_weights(one, other)
    assert again.scaler.state_dict() == update.scaler.state_dict()


def test_weight_decay_is_for_matrices_only() -> None:
    model = tiny_model(tied=False)
    optimizer = make_optimizer(model, recipe(weight_decay=0.3))
    decay = {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert decay == {
        "hidden.weight": 0.3,
        "head.weight": 0.3,
        "embedding.weight": 0.0,
        "hidden.bias": 0.0,
        "head.bias": 0.0,
    }


def test_tables_have_a_weight_decay_of_their_own() -> None:
    model = tiny_model(tied=False)
    optimizer = make_optimizer(model, recipe(weight_decay=0.3, embedding_decay=0.02))
    decay = {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert decay == {
        "hidden.weight": 0.3,
        "head.weight": 0.3,
        "embedding.weight": 0.02,
        "hidden.bias": 0.0,
        "head.bias": 0.0,
    }


def test_decay_shrinks_what_it_is_for() -> None:
    model = tiny_model(tied=False)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, recipe(lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 0.95 if model.decay(name, parameter) == "weight_decay" else 1.0
        torch.testing.assert_close(parameter.detach(), factor * start[name])


def test_schedule() -> None:
    plan = recipe(steps=101, warmup=20, lr=2.0, final_lr=0.25)
    rates = [learning_rate(step, plan) for step in range(101)]
    assert rates[:20] == pytest.approx([2.0 * (n + 1) / 20 for n in range(20)])
    assert rates[20] == 2.0
    assert rates[60] == pytest.approx((2.0 + 0.5) / 2)
    assert rates[100] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert learning_rate(0, recipe(steps=1, warmup=0, lr=1.0)) == 1.0


def test_dropout_differs_between_steps_parts_and_seeds_and_never_else() -> None:
    seeds = [
        step_seed(seed, step, part) for seed in range(3) for step in range(50) for part in range(4)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3)


# killing and resuming


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kill_at", [3, 7, 22, 39])
def test_resumed_weights_are_bitwise_those_of_an_uninterrupted_run(
    tmp_path: Path, kill_at: int, precision: str
) -> None:
    changes = {"precision": precision, "accumulate": 2, "patience": 3}
    whole, resumed = tiny_model(dropout=0.3), tiny_model(dropout=0.3)
    expected = train_tiny(whole, tmp_path / "whole.safetensors", changes)
    path = tmp_path / "killed.safetensors"
    with pytest.raises(Killed):
        train_tiny(resumed, path, changes, batches=killing(kill_at))
    fresh = tiny_model(seed=99, dropout=0.3) if kill_at >= 7 else tiny_model(dropout=0.3)
    torch.manual_seed(kill_at)  # the state of the generator must not matter
    history = train_tiny(fresh, path, changes)
    assert history.resumed_from == (kill_at // 7 * 7 or None)
    assert essence(history) == essence(expected)
    assert_equal_weights(fresh, whole)
    assert not partial_path(path).exists()


def test_killed_twice(tmp_path: Path) -> None:
    whole, path, seconds = tiny_model(), tmp_path / "w.safetensors", [0.0]
    train_tiny(whole, tmp_path / "whole.safetensors")
    for step in (9, 30):
        with pytest.raises(Killed):
            train_tiny(tiny_model(), path, batches=killing(step))
        seconds.append(load(partial_path(path)).history.seconds)
    fresh = tiny_model()
    history = train_tiny(fresh, path)
    assert history.resumed_from == 28
    assert 0.0 < seconds[1] < seconds[2] < history.seconds  # over all sittings
    assert_equal_weights(fresh, whole)


def test_a_process_killed_by_the_system_resumes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    code = f"import tiny; tiny.train_slowly({str(path)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}
    )
    try:
        deadline = time.monotonic() + 60
        while (
            not partial_path(path).exists()
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        time.sleep(0.2)  # into the middle of things
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not path.exists()
    resumed, whole = tiny_model(seed=5), tiny_model()
    history = train_tiny(resumed, path, {"steps": 120})
    expected = train_tiny(whole, tmp_path / "whole.safetensors", {"steps": 120})
    assert 7 <= (history.resumed_from or 0) < 120
    assert essence(history) == essence(expected)
    assert_equal_weights(resumed, whole)


def partial(changes: dict[str, Any] | None = None) -> Callable[[Path], None]:
    """A training that was killed, and whose file then changed, with a checksum that fits."""

    def make(path: Path) -> None:
        with pytest.raises(Killed):
            train_tiny(tiny_model(), path, batches=killing(20))
        found = load(partial_path(path))
        dataclasses.replace(found, **(changes or {})).save(partial_path(path), {})

    return make


def other_identity(path: Path) -> None:
    identity = IDENTITY | {"train.lr": "0.5"}
    with pytest.raises(Killed):
        train_tiny(tiny_model(), path, {"lr": 0.5}, identity=identity, batches=killing(20))


def truncated(path: Path) -> None:
    partial()(path)
    partial_path(path).write_bytes(partial_path(path).read_bytes()[:-9])


def a_bit(path: Path) -> None:
    partial()(path)
    content = bytearray(partial_path(path).read_bytes())
    content[-100] ^= 8
    partial_path(path).write_bytes(content)


UNUSABLE: dict[str, Callable[[Path], None]] = {
    "other identity": other_identity,
    "other entries": partial({"identity": {"a": "b"}}),
    "truncated": truncated,
    "a bit": a_bit,
    "finished": partial({"scaler": None}),
    "other model": partial({"tensors": weights(tiny_model(dim=4))}),
    "step": partial({"step": "no number"}),
    "too many steps": partial({"step": 41}),
    "no steps": partial({"step": -1}),
}


@pytest.mark.parametrize("damage", UNUSABLE)
def test_kind_8_what_is_not_this_training_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = tmp_path / "w.safetensors"
    UNUSABLE[damage](path)
    before = partial_path(path).read_bytes()
    model, whole = tiny_model(), tiny_model()
    history = train_tiny(model, path)
    assert history.resumed_from is None
    assert "training starts anew" in caplog.text
    assert partial_path(path).with_name(partial_path(path).name + ".aside").read_bytes() == before
    train_tiny(whole, tmp_path / "whole.safetensors")
    assert_equal_weights(model, whole)


def test_resuming_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Killed):
        train_tiny(tiny_model(), tmp_path / "w.safetensors", batches=killing(20))
    with caplog.at_level(logging.INFO):
        train_tiny(tiny_model(), tmp_path / "w.safetensors")
    assert "goes on from step 14 of 40" in caplog.text


# divergence


class Poisoned(TinyModel):
    """Returns a loss that is not finite, or has such a gradient, in one training step."""

    def __init__(self, at: int, how: str) -> None:
        super().__init__()
        self.at, self.how, self.calls = at, how, 0

    def loss(
        self, tokens: Tensor, targets: Tensor, chunk: int, objective: Objective = PLAIN
    ) -> tuple[Tensor, Tensor]:
        nats, count = super().loss(tokens, targets, chunk)
        if self.training:
            self.calls += 1
            if self.calls == self.at:
                if self.how == "gradient":
                    nats.register_hook(lambda gradient: gradient * float("nan"))
                    return nats, count
                return nats * float(self.how), count
        return nats, count


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
@pytest.mark.parametrize(("at", "good"), [(1, None), (14, 7), (15, 14), (20, 14), (40, 35)])
def test_divergence_stops_with_its_step_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, at: int, good: int | None, how: str
) -> None:
    path = tmp_path / "w.safetensors"
    torch.manual_seed(0)
    with pytest.raises(TrainingDiverged, match=f"diverged at step {at}:") as caught:
        train_tiny(Poisoned(at, how), path)
    assert caught.value.step == at
    assert not path.exists()
    if good is None:
        assert caught.value.checkpoint is None
        assert "no checkpoint from before" in str(caught.value)
        return
    assert caught.value.checkpoint == partial_path(path)
    assert str(partial_path(path)) in str(caught.value)
    model = tiny_model()
    file = load_weights(model, partial_path(path), IDENTITY)
    assert str(file.step) == str(good)
    assert all(torch.isfinite(tensor).all() for tensor in weights(model).values())


@pytest.mark.parametrize("how", ["value", "error"])
def test_validation_that_is_not_finite_is_divergence(tmp_path: Path, how: str) -> None:
    def validate() -> float:
        if how == "error":
            raise NotFinite("batch 0")
        return float("nan")

    with pytest.raises(TrainingDiverged, match="step 10"):
        train_tiny(tiny_model(), tmp_path / "w.safetensors", validate=validate)


def test_fp16_loss_that_is_not_finite_is_divergence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(TrainingDiverged, match="step 5"):
        train_tiny(Poisoned(5, "inf"), tmp_path / "w.safetensors", {"precision": "fp16"})


# early stop


def test_early_stop_keeps_the_best_weights(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "w.safetensors"
    nats = iter([3.0, 2.0, 2.5, 2.0, 9.0, 9.0])
    snapshots: list[dict[str, Tensor]] = []

    def validate() -> float:
        snapshots.append({name: tensor.detach().clone() for name, tensor in weights(model).items()})
        return next(nats)

    history = train_tiny(model, path, {"steps": 100, "patience": 3}, validate=validate)
    assert (history.stopped, history.weights, history.best_step) == (
        "early stop at step 50",
        "best",
        20,
    )
    assert [record["step"] for record in history.validations] == [10, 20, 30, 40, 50]
    assert not torch.equal(snapshots[1]["hidden.weight"], snapshots[4]["hidden.weight"])
    stored = load(path).tensors
    for name, tensor in weights(model).items():
        assert torch.equal(tensor, snapshots[1][name])
        assert torch.equal(stored[name], snapshots[1][name])


def test_early_stop_survives_a_kill(tmp_path: Path) -> None:
    def validator() -> Any:
        values = {10: 3.0, 20: 2.0, 30: 2.5, 40: 2.6}
        steps = iter(values)
        return lambda: values[next(steps)]

    whole, resumed, path = tiny_model(), tiny_model(), tmp_path / "w.safetensors"
    changes = {"steps": 100, "patience": 2}
    expected = train_tiny(whole, tmp_path / "whole.safetensors", changes, validate=validator())
    validate = validator()
    with pytest.raises(Killed):
        train_tiny(tiny_model(), path, changes, batches=killing(29), validate=validate)
    history = train_tiny(resumed, path, changes, validate=validate)
    assert history.resumed_from == 28
    assert essence(history) == essence(expected)
    assert history.stopped == "early stop at step 40"
    assert_equal_weights(resumed, whole)


def test_patience_without_stop_keeps_the_best_too(tmp_path: Path) -> None:
    nats = iter([1.0, 2.0, 3.0, 4.0])
    history = train_tiny(
        tiny_model(), tmp_path / "w.safetensors", {"patience": 9}, validate=lambda: next(nats)
    )
    assert (history.stopped, history.weights, history.best_step) == ("budget", "best", 10)


def test_without_patience_the_final_weights_are_kept(tmp_path: Path) -> None:
    nats = iter([1.0, 2.0, 3.0, 4.0])
    whole, model = tiny_model(), tiny_model()
    train_tiny(whole, tmp_path / "whole.safetensors")
    history = train_tiny(model, tmp_path / "w.safetensors", validate=lambda: next(nats))
    assert (history.stopped, history.weights, history.best_step) == ("budget", "final", 10)
    assert_equal_weights(model, whole)


def test_patience_needs_validation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.patience=2"):
        train_tiny(tiny_model(), tmp_path / "w.safetensors", {"patience": 2}, validate=None)
