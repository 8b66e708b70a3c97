"""The training loop: steps, validation, early stop, checkpoints, and going on after a kill.

A killed training goes on from its last checkpoint to the same weights: bit for bit where the
kernels are deterministic (on the CPU they are; on CUDA some backward passes add in varying order).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phasebench.config import ConfigError, TrainConfig
from phasebench.models import LanguageModel
from phasebench.training import ranks
from phasebench.training.average import Average
from phasebench.training.checkpoint import (
    BadCheckpoint,
    Checkpoint,
    History,
    copy_weights,
    load,
    weights,
)
from phasebench.training.optimizer import (
    decay_start,
    learning_rate,
    restore_state,
    state_tensors,
)
from phasebench.training.progress import Clock, Observer, StepReport
from phasebench.training.scoring import Batch, NotFinite, matmul_precision, mode, perplexity
from phasebench.training.step import TrainStep
from phasebench.training.trunk import Trunk

log = logging.getLogger(__name__)

LOG_EVERY = 10  # steps between two looks at the loss: each look waits for the device
OPTIMIZER, AVERAGE, BEST = "optimizer/", "average/", "best/"  # beginnings of names in a checkpoint


class TrainingDiverged(ArithmeticError):
    """A loss or gradient is NaN or infinite. `checkpoint` is the last one from before, or None.

    Where steps are `recorded`, a flow that leaves its lattice cannot say so itself.
    """

    def __init__(self, step: int, checkpoint: Path | None, *, recorded: bool = False) -> None:
        self.step, self.checkpoint = step, checkpoint
        kept = f"the last good checkpoint is {checkpoint}"
        if checkpoint is None:
            kept = "there is no checkpoint from before"
        cause = "; train.graph=false tells whether a flow left its lattice" if recorded else ""
        super().__init__(
            f"training diverged at step {step}: its loss or gradient is not finite; {kept}\n"
            f"  fix: lower train.lr, or train.precision=bf16 or fp32{cause}"
        )


@dataclass
class Training:
    """One training: of what, on what, by which recipe, and where its weights go.

    Attributes:
        model: on `device`; trained in place.
        batches: gives the batch of a step, counted from 0.
        validate: gives nats a token, of the average of the weights that recipe.average asks for,
            which is also what is kept; None: nothing is validated.
        recipe: with recipe.patience the weights of the best validation are kept, without it those
            of the last step.
        seed: of dropout.
        path: where the weights are written.
        identity: what determines the weights. An unfinished training beside path goes on if it
            recorded the same, and is set aside if not, or if it is damaged.
        about: further metadata of the file.
        observers: are told of steps and validations.
        probe: measures more to record with a validation.
        trunk: with recipe.schedule=wsd, where the state before the decay is kept, and where the
            training begins if a shorter one left it.
    """

    model: LanguageModel
    batches: Callable[[int], Batch]
    validate: Callable[[], float] | None
    recipe: TrainConfig
    seed: int
    device: torch.device
    path: Path
    identity: dict[str, str]
    about: Mapping[str, str] = field(default_factory=dict)
    observers: Sequence[Observer] = ()
    probe: Callable[[], dict[str, Any]] | None = None
    trunk: Trunk | None = None

    def __post_init__(self) -> None:
        patience = self.recipe.patience
        if patience is not None and self.validate is None:
            problem, fix = "nothing is validated", "train.patience=null"
            raise ConfigError("train.patience", patience, problem, fix)
        self.partial = partial_path(self.path)
        self.step = TrainStep(self.model, self.recipe, self.seed, self.device)
        self.average = Average(self.model, self.recipe)
        self.history, self.done, self.clock = History(), 0, Clock()  # done: steps
        self.seconds_before = 0.0  # this sitting
        self.best: dict[str, Tensor] = {}  # weights of the best validation, where patience asks

    def run(self) -> History:
        """Train, write the weights, and drop the unfinished training.

        Raises `TrainingDiverged` where a loss is NaN or infinite.
        """
        recipe = self.recipe
        with (
            torch.random.fork_rng([self.device] if self.device.type == "cuda" else []),
            matmul_precision(recipe.precision),
            mode(self.model, training=True),
        ):
            self._resume()
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            if not ranks.rank():
                ranks.wait()
            while self.done < recipe.steps and not self._out_of_patience():
                batch = self.batches(self.done)
                loss, norm = self.step(self.done, batch)
                self.done += 1
                self.average.update(self.done)
                self.clock.tokens += batch[1].numel()
                if self._due(LOG_EVERY) or self.done == 1:
                    self._log(loss, norm)
                if self.validate and self._due(recipe.validate_every):
                    self._validate(self.validate)
                if self.done % recipe.checkpoint_every == 0 and self.done < recipe.steps:
                    self._save(self.partial, self.identity)
                if self.trunk and not ranks.rank() and self.done == decay_start(recipe):
                    self._save(self.trunk.path(self.done), self.trunk.identity)
                    self.trunk.forget_before(self.done)
            return self._finish()

    def _due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.recipe.steps

    def _check(self, nats: float = 0.0) -> None:
        """Raise if a step or a validation diverged; called always before anything is kept."""
        step = self.step.first_bad_step() or (0 if math.isfinite(nats) else self.done)
        if step:
            kept = self.partial if self.partial.exists() else None
            raise TrainingDiverged(step, kept, recorded=self.step.recorded)

    def _log(self, loss: Tensor, norm: Tensor) -> None:
        self._check()
        size, steps = float(norm), self.done - (self.history.resumed_from or 0)
        record: dict[str, Any] = {
            "step": self.done,
            "loss": float(loss),
            "lr": learning_rate(self.done - 1, self.recipe),
            "tokens_per_s": self.clock.lap(),
            "grad_norm": size if math.isfinite(size) else None,
        }
        self.history.steps.append(record)
        seconds_left = self.clock.elapsed() / steps * (self.recipe.steps - self.done)
        for observer in self.observers:
            observer.on_step(StepReport(self.recipe.steps, seconds_left, **record))

    def _validate(self, validate: Callable[[], float]) -> None:
        self._check()
        with self.clock.paused(), self.average.applied():
            try:
                nats = ranks.from_first(0.0 if ranks.rank() else validate())
            except NotFinite:
                nats = ranks.from_first(math.nan)
            self._check(nats)
            record = {"step": self.done, "nats_per_token": nats, "perplexity": perplexity(nats)}
            record |= self.probe() if self.probe and not ranks.rank() else {}
            self.history.validations.append(record)
            best = min(self.history.validations, key=lambda past: past["nats_per_token"])
            self.history.best_step = best["step"]
            if best is record and self.recipe.patience is not None:
                live = weights(self.model)
                self.best = {name: w.detach().to("cpu", copy=True) for name, w in live.items()}
        for observer in self.observers:
            observer.on_validation(self.done, record["perplexity"])

    def _out_of_patience(self) -> bool:
        if self.recipe.patience is None:
            return False
        best = self.history.best_step or 0
        since = sum(validation["step"] > best for validation in self.history.validations)
        return since >= self.recipe.patience

    def _save(self, path: Path, identity: dict[str, str], *, finished: bool = False) -> None:
        """Write the weights, and where the training is not finished all that it needs to go on."""
        self._check()
        if ranks.rank():
            return
        with self.clock.paused():
            tensors, scaler = weights(self.model), None
            if not finished:
                scaler = self.step.scaler.state_dict()
                moments = state_tensors(self.step.optimizer)
                groups = {OPTIMIZER: moments, AVERAGE: self.average.means, BEST: self.best}
                for prefix, group in groups.items():
                    tensors |= {prefix + name: tensor for name, tensor in group.items()}
            self.history.seconds = self.seconds_before + self.clock.elapsed()
            if self.device.type == "cuda":
                peak = torch.cuda.max_memory_allocated(self.device)
                self.history.peak_bytes = max(self.history.peak_bytes or 0, peak)
            Checkpoint(tensors, identity, self.done, self.history, scaler).save(path, self.about)

    def _resume(self) -> None:
        """Go on from the unfinished training beside the path, or else from the trunk."""
        if ranks.rank():
            ranks.wait()  # until rank 0 has read it, and has set it aside if it is damaged
        start, identity = self.partial, self.identity
        if self.trunk and not start.exists():
            start = self.trunk.latest(decay_start(self.recipe)) or start
            identity = self.trunk.identity
        if not start.exists():
            return
        try:
            saved = load(start)
            saved.check_identity(identity, exact=True)
            if saved.scaler is None:
                raise BadCheckpoint("is not an unfinished training")
            if not 0 < saved.step <= self.recipe.steps:
                raise BadCheckpoint(f"has done {saved.step} steps of {self.recipe.steps}")
            copy_weights(self.model, saved.weights)
        except BadCheckpoint as problem:
            aside = set_aside(start)
            log.warning("training starts anew: %s %s; it is now %s", start, problem, aside.name)
            return
        restore_state(self.step.optimizer, saved.below(OPTIMIZER))
        self.step.scaler.load_state_dict(saved.scaler)
        means = saved.below(AVERAGE)
        self.average.means = {name: mean.to(self.device) for name, mean in means.items()}
        self.best = saved.below(BEST)
        self.history, self.done = saved.history, saved.step
        self.seconds_before, self.history.resumed_from = saved.history.seconds, saved.step
        log.info("training goes on from step %d of %d (%s)", self.done, self.recipe.steps, start)

    def _finish(self) -> History:
        budget = self.done == self.recipe.steps
        self.history.stopped = "budget" if budget else f"early stop at step {self.done}"
        self.history.average = self.average.describe()
        if self.best:
            copy_weights(self.model, self.best)
            self.history.weights = "best"
        else:
            self.average.put(self.average.means)
        self._save(self.path, self.identity, finished=True)
        if not ranks.rank():
            self.partial.unlink(missing_ok=True)
        return self.history


def partial_path(path: Path) -> Path:
    """Return where the unfinished training of the weights at path is kept."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that its place is free, and return the new path."""
    aside = path.with_name(path.name + ".aside")
    os.replace(path, aside)
    return aside
