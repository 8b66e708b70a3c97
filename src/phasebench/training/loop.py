"""The training loop: updates, validation, early stop, checkpoints, and going on after a kill.

A killed training goes on from its last checkpoint to the same weights: bit for bit where the kernels are
deterministic (on the CPU they are; on CUDA some backward passes add in varying order).
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phasebench.config import ConfigError, TrainConfig
from phasebench.training.average import Average
from phasebench.training.checkpoint import (
    BadCheckpoint,
    check_identity,
    copy_weights,
    load,
    save,
    weights,
)
from phasebench.training.optimizer import decay_start, learning_rate
from phasebench.training.progress import Clock, Observer, StepReport
from phasebench.training.scoring import Batch, NotFinite, matmul_precision, mode, perplexity
from phasebench.training.step import Trainable, Updater
from phasebench.training.trunk import Trunk

log = logging.getLogger(__name__)

LOG_EVERY = 10  # steps between two looks at the loss: each look waits for the device
BEST = "best/"


class TrainingDiverged(ArithmeticError):
    """A loss or gradient is NaN or infinite. `checkpoint` is the last one from before, or None.

    Where steps are `recorded`, a flow that leaves its lattice cannot say so itself.
    """

    def __init__(self, step: int, checkpoint: Path | None, *, recorded: bool = False) -> None:
        self.step, self.checkpoint = step, checkpoint
        kept = (
            f"the last good checkpoint is {checkpoint}"
            if checkpoint
            else "there is no checkpoint from before"
        )
        cause = "; train.graph=false tells whether a flow left its lattice" if recorded else ""
        super().__init__(
            f"training diverged at step {step}: its loss or gradient is not finite; {kept}\n"
            f"  fix: lower train.lr, or train.precision=bf16 or fp32{cause}"
        )


@dataclass
class History:
    """What happened in a training."""

    steps: list[dict[str, Any]] = field(
        default_factory=list
    )  # step loss lr tokens_per_s grad_norm, every 10 steps
    validations: list[dict[str, Any]] = field(
        default_factory=list
    )  # step nats_per_token perplexity, and the probe's
    stopped: str = ""  # "budget", or "early stop at step ..."
    weights: str = "final"  # which ones were kept: "final", or "best" (of the validations)
    average: str = ""  # over which steps the weights were averaged; empty: not at all
    best_step: int | None = None  # of the best validation
    seconds: float = 0.0  # over all sittings
    resumed_from: int | None = None  # step

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> History:
        """The history that `train` left in a checkpoint's metadata."""
        return cls(**json.loads(metadata["history"]))


@dataclass(frozen=True)
class Task:
    """What is trained, and where the weights go (see `train`)."""

    model: Trainable
    batches: Callable[[int], Batch]
    validate: Callable[[], float] | None
    recipe: TrainConfig
    path: Path
    identity: dict[str, str]
    observer: Observer | None
    probe: Callable[[], dict[str, Any]] | None
    trunk: Trunk | None

    @property
    def partial(self) -> Path:
        return partial_path(self.path)


def train(
    model: Trainable,
    batches: Callable[[int], Batch],
    validate: Callable[[], float] | None,
    recipe: TrainConfig,
    *,
    seed: int,
    device: torch.device,
    path: Path,
    identity: Mapping[str, str],
    observer: Observer | None = None,
    probe: Callable[[], dict[str, Any]] | None = None,
    trunk: Trunk | None = None,
) -> History:
    """Train the model, which is on `device`, in place, and write its weights to path.

    batches(n) is the batch of step n, from 0; validate() gives nats a token, and probe() more to record with them: both
    see the average of the weights that recipe.average asks for, which is also what is kept.  identity is what
    determines the weights: an unfinished training beside path goes on if it recorded the same, and is set aside if not.
    A trunk, of recipe.schedule=wsd, is where the state before the decay is kept, and where the
    training begins if a shorter one left it.
    With recipe.patience the weights of the best validation are kept, without it those of the last step.
    Raises `TrainingDiverged` where a loss is NaN or infinite, `ConfigError` for patience without validation.
    """
    if recipe.patience is not None and validate is None:
        raise ConfigError(
            "train.patience", recipe.patience, "nothing is validated", "train.patience=null"
        )
    task = Task(model, batches, validate, recipe, path, dict(identity), observer, probe, trunk)
    cuda = (
        [torch.cuda.current_device() if device.index is None else device.index]
        if device.type == "cuda"
        else []
    )
    with (
        torch.random.fork_rng(cuda),
        matmul_precision(recipe.precision),
        mode(model, training=True),
    ):
        trainer = _Trainer(task, Updater(model, recipe, seed, device))
        trainer.resume()
        trainer.run()
        return trainer.finish()


def partial_path(path: Path) -> Path:
    """Where the unfinished training of the weights at path is kept."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


class _Trainer:
    """The state of one training: `done` steps of it are in the model, the updater and the history."""

    def __init__(self, task: Task, update: Updater) -> None:
        self.task, self.recipe, self.update = task, task.recipe, update
        self.average = Average(task.model, task.recipe)
        self.history, self.done, self.clock = History(), 0, Clock()
        self.best: dict[
            str, Tensor
        ] = {}  # weights of the best validation, kept where patience asks for them

    def run(self) -> None:
        while self.done < self.recipe.steps and not self._out_of_patience():
            batch = self.task.batches(self.done)
            loss, norm = self.update(self.done, batch)
            self.done += 1
            self.average.update(self.done)
            self.clock.tokens += batch[1].numel()
            if self._due(LOG_EVERY) or self.done == 1:
                self._log(loss, norm)
            if self.task.validate and self._due(self.recipe.validate_every):
                self._validate(self.task.validate)
            if self.done % self.recipe.checkpoint_every == 0 and self.done < self.recipe.steps:
                self._checkpoint(self.task.partial, self.task.identity)
            if self.task.trunk and self.done == decay_start(self.recipe):
                self._checkpoint(self.task.trunk.path(self.done), self.task.trunk.identity)
                self.task.trunk.forget_before(self.done)

    def _due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.recipe.steps

    def _check(self) -> None:
        """Raise if a step diverged: now and then, and always before anything is kept."""
        step = self.update.first_bad_step()
        if step:
            raise self._diverged(step)

    def _diverged(self, step: int) -> TrainingDiverged:
        partial = self.task.partial
        return TrainingDiverged(
            step, partial if partial.exists() else None, recorded=self.update.recorded
        )

    def _log(self, loss: Tensor, norm: Tensor) -> None:
        self._check()
        rate, size = learning_rate(self.done - 1, self.recipe), float(norm)
        finite_size = size if math.isfinite(size) else None
        report = StepReport(
            self.done, self.recipe.steps, float(loss), rate, finite_size, *self._pace()
        )
        record = asdict(report)
        self.history.steps.append(
            {k: record[k] for k in ("step", "loss", "lr", "tokens_per_s", "grad_norm")}
        )
        if self.task.observer:
            self.task.observer.on_step(report)

    def _pace(self) -> tuple[float, float]:
        """Tokens per second since the last look, and seconds left at the pace of this sitting."""
        steps = self.done - (self.history.resumed_from or 0)
        return self.clock.lap(), self.clock.elapsed() / steps * (self.recipe.steps - self.done)

    def _validate(self, validate: Callable[[], float]) -> None:
        self._check()
        with self.clock.paused(), self.average.applied():
            try:
                nats = validate()
            except NotFinite as error:
                raise self._diverged(self.done) from error
            if not math.isfinite(nats):
                raise self._diverged(self.done)
            self._record(nats, self.task.probe() if self.task.probe else {})

    def _record(self, nats: float, probed: dict[str, Any]) -> None:
        record = {
            "step": self.done,
            "nats_per_token": nats,
            "perplexity": perplexity(nats),
        } | probed
        self.history.validations.append(record)
        best = min(self.history.validations, key=lambda past: past["nats_per_token"])
        self.history.best_step = best["step"]
        if best is record and self.recipe.patience is not None:
            self.best = {
                name: w.detach().to("cpu", copy=True)
                for name, w in weights(self.task.model).items()
            }
        if self.task.observer:
            self.task.observer.on_validation(self.done, record["perplexity"])

    def _out_of_patience(self) -> bool:
        since = [
            past
            for past in self.history.validations
            if past["step"] > (self.history.best_step or 0)
        ]
        return self.recipe.patience is not None and len(since) >= self.recipe.patience

    def _checkpoint(self, path: Path, identity: dict[str, str]) -> None:
        self._check()
        with self.clock.paused():
            optimizer, scaler = self.update.state()
            best = {BEST + name: tensor for name, tensor in self.best.items()}
            metadata = self._metadata(identity) | {"scaler": json.dumps(scaler)}
            save(
                path,
                weights(self.task.model) | optimizer | self.average.state() | best,
                metadata,
            )

    def _metadata(self, identity: dict[str, str]) -> dict[str, str]:
        self.history.seconds += self.clock.take()
        return {
            "identity": json.dumps(identity, sort_keys=True),
            "step": str(self.done),
            "history": json.dumps(asdict(self.history)),
        }

    def resume(self) -> None:
        """Go on from the unfinished training beside the path, or from the trunk, if there is one."""
        partial, identity = self.task.partial, self.task.identity
        if not partial.exists():
            trunk = self.task.trunk
            kept = trunk.latest(decay_start(self.recipe)) if trunk else None
            if trunk is None or kept is None:
                return
            partial, identity = kept, trunk.identity
        try:
            self._restore(*load(partial), identity)
            log.info(
                "training goes on from step %d of %d (%s)", self.done, self.recipe.steps, partial
            )
        except BadCheckpoint as problem:
            aside = partial.with_name(partial.name + ".aside")
            os.replace(partial, aside)
            log.warning("training starts anew: %s %s; it is now %s", partial, problem, aside.name)

    def _restore(
        self, tensors: dict[str, Tensor], metadata: dict[str, str], identity: dict[str, str]
    ) -> None:
        check_identity(metadata, identity, exact=True)
        if "scaler" not in metadata:
            raise BadCheckpoint("is not an unfinished training")
        copy_weights(
            self.task.model, {name: tensor for name, tensor in tensors.items() if "/" not in name}
        )
        self.update.restore(tensors, json.loads(metadata["scaler"]))
        self.average.restore(tensors)
        self.best = {
            name.removeprefix(BEST): t.clone()
            for name, t in tensors.items()
            if name.startswith(BEST)
        }
        self.history, self.done = History.of(metadata), int(metadata["step"])
        self.history.resumed_from = self.done

    def finish(self) -> History:
        """Write the weights to the path, and drop the unfinished training."""
        self._check()
        self.history.stopped = (
            "budget" if self.done == self.recipe.steps else f"early stop at step {self.done}"
        )
        self.history.average = self.average.describe()
        if self.best:
            copy_weights(self.task.model, self.best)
            self.history.weights = "best"
        else:
            self.average.apply()
        save(self.task.path, weights(self.task.model), self._metadata(self.task.identity))
        self.task.partial.unlink(missing_ok=True)
        return self.history
