"""Trained models: from a file that the user gives, from the cache, or trained now and put there."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from phasebench.config import ConfigError, EnergyConfig, ModelConfig, TrainConfig
from phasebench.config.files import os_errors, user_path
from phasebench.data import Corpus, scoring_batches, steps_of, training_batch
from phasebench.dynamics.energy import energies, flow_starts
from phasebench.models import HuggingFaceModel, LanguageModel, build_model
from phasebench.results.lock import locked
from phasebench.training import ranks
from phasebench.training.checkpoint import BadCheckpoint, load_weights
from phasebench.training.identity import architecture, description, weights_hash
from phasebench.training.loop import Training, TrainingDiverged, partial_path, set_aside
from phasebench.training.progress import Observer
from phasebench.training.scoring import Batch, autocast, mode, score
from phasebench.training.trunk import Trunk

log = logging.getLogger(__name__)

CURVE_POINTS = 120  # steps of a training's history that results.json keeps
PROBE_TOKENS = 256  # on which the drift is tracked through a training


@dataclass(frozen=True)
class Trained:
    """A model with trained weights, and where they come from."""

    model: LanguageModel
    origin: dict[str, Any]  # JSON-able: trained now, cached or given; steps, seconds, history
    notices: list[str] = field(default_factory=list)  # what a reader of the results must know


@dataclass
class WeightSource:
    """Gives trained models: loads a given file, else a cached one, else trains and caches.

    Attributes:
        corpus: the text that models are trained on.
        recipe: how; a model may have its own learning rate and weight decay.
        seed: of weights, batches and dropout, where a call names none.
        device: on which models are trained and returned.
        cache: folder below which weights are kept.
        say: shows the user a line.
        observers: makes those of a training, given the model's name.
        batches: of a task that is no text, the batch of a step, by recipe and seed; nothing is
            validated then.
    """

    corpus: Corpus
    recipe: TrainConfig
    seed: int
    device: torch.device
    cache: Path
    say: Callable[[str], None]
    observers: Callable[[str], list[Observer]]
    batches: Callable[[int, TrainConfig, int], Batch] | None = None

    def __post_init__(self) -> None:
        self._loaded: dict[tuple[str, str], Trained] = {}

    def recipe_of(self, config: ModelConfig, epochs: float | None = None) -> TrainConfig:
        """Return a model's own recipe: its learning rate, its decay, and steps for the epochs.

        `epochs` are train.epochs where none are given.
        """
        common = self.recipe
        steps, epochs = common.steps, epochs or common.epochs
        if epochs is not None:
            tokens = len(self.corpus.splits["train"].tokens)
            steps = steps_of(epochs, tokens, batch=common.batch, seq=common.seq)
        decay = common.weight_decay if config.weight_decay is None else config.weight_decay
        lr, parts = config.lr or common.lr, common.accumulate * ranks.size()
        return dataclasses.replace(common, steps=steps, lr=lr, weight_decay=decay, accumulate=parts)

    def trained(
        self,
        config: ModelConfig,
        key: str,
        seed: int | None = None,
        epochs: float | None = None,
    ) -> Trained:
        """Return the model of config with trained weights: given, cached, or newly trained.

        `key` is the dotted name of config, for messages. A cached file that is damaged, or of other
        weights than its name says, is set aside with a notice, and trained again. Raises
        `ConfigError` for a given file that cannot be used, and what `Training.run` raises.
        """
        seed = self.seed if seed is None else seed
        recipe = self.recipe_of(config, epochs)
        name = weights_hash(config, recipe, self.corpus, seed, self.device)
        own = name, str(config.ode)  # one set of weights may be run by several
        if own not in self._loaded:
            if config.checkpoint is None:
                trained = self._cached(config, recipe, name, seed)
            else:
                trained = self._given(config, key)
            self._loaded[own] = _labelled(trained, config)
        return self._loaded[own]

    def is_there(self, config: ModelConfig, seed: int, epochs: float | None = None) -> bool:
        """Tell whether trained weights are given or cached."""
        recipe = self.recipe_of(config, epochs)
        name = weights_hash(config, recipe, self.corpus, seed, self.device)
        return config.checkpoint is not None or self._path(config, name).exists()

    def _path(self, config: ModelConfig, name: str) -> Path:
        return self.cache / "weights" / f"{config.name}-{name[:16]}.safetensors"

    def release(self) -> None:
        """Forget the models; they are loaded again if asked for again."""
        self._loaded.clear()

    def _given(self, config: ModelConfig, key: str) -> Trained:
        if config.name == "hf":
            model = HuggingFaceModel.pretrained(config, key).to(self.device)
            origin = {"origin": "given", "file": Path(str(config.checkpoint)).name}
            return Trained(model.eval(), origin)
        key = f"{key}.checkpoint"
        model, path = self._fresh(config, self.seed), user_path(str(config.checkpoint), key)
        fix = "give the weights of this model and data"
        if config.has_flow:
            ode = key.replace("checkpoint", "trained_ode")
            fix += f", {ode} (steps, dt, integrator) as they were trained"
        fix += f", or {key}=null to train them"
        try:
            with os_errors(key, path, fix):
                file = load_weights(model, path, architecture(config, self.corpus))
        except BadCheckpoint as error:
            raise ConfigError(key, path, str(error), fix) from error
        origin = {
            "origin": "given",
            "file": path.name,
            "steps_done": file.step,
            "steps_of_recipe": self.recipe_of(config).steps,
        }
        notices = []
        if file.scaler is not None:
            notices = [f"{path.name} is of an unfinished training: {file.step} steps"]
            log.warning("%s is a training that did not finish", path)
        return Trained(model.eval(), origin, notices)

    def _cached(self, config: ModelConfig, recipe: TrainConfig, name: str, seed: int) -> Trained:
        path = self._path(config, name)
        identity = {"weights": name, **architecture(config, self.corpus)}
        stored = self._stored(config, path, identity)  # without the lock: reading needs no write
        if isinstance(stored, Trained):
            return stored
        waiting = f"waiting for another run, which trains {path.name}"
        with ExitStack() as stack:  # two runs that need the same weights train them once
            with os_errors("cache_dir", self.cache, "cache_dir=FOLDER that you may write to"):
                lock = locked(path.with_suffix(".lock"), waiting=waiting, tell=self.say)
                stack.enter_context(lock)
            stored = self._stored(config, path, identity)
            if isinstance(stored, Trained):
                return stored
            if stored is not None:
                with os_errors("cache_dir", self.cache, f"delete {path}"):
                    aside = set_aside(path)
                self.say(f"{config.name}: {path} {stored}; it is now {aside.name}")
            self._train(config.as_trained(), recipe, path, identity, seed)
            trained = self._load(config, path, identity, "trained")
        if ranks.size() > 1:
            trained.notices.append(f"{ranks.size()} processes shared each batch of the training")
        return trained

    def _stored(
        self, config: ModelConfig, path: Path, identity: dict[str, str]
    ) -> Trained | BadCheckpoint | None:
        """Load a cached file; None where there is none, or the reason why it cannot be used."""
        if not path.exists():
            return None
        try:
            with os_errors("cache_dir", self.cache, "cache_dir=FOLDER that you may read"):
                stored = self._load(config, path, identity, "cache")
        except BadCheckpoint as problem:
            return problem
        if os.access(path.parent, os.W_OK):  # of a training killed just after its last write
            partial_path(path).unlink(missing_ok=True)
        self.say(f"{config.name}: reusing trained weights {path.name}")
        return stored

    def _load(
        self, config: ModelConfig, path: Path, identity: dict[str, str], origin: str
    ) -> Trained:
        """Load a file of the cache, with a thinned history of its training."""
        model = self._fresh(config, self.seed)
        history = load_weights(model, path, identity).history
        steps, every = history.steps, -(-len(history.steps) // CURVE_POINTS) or 1
        kept = [record for i, record in enumerate(steps) if not i % every or record is steps[-1]]
        facts = {"origin": origin, "file": path.name, **dataclasses.asdict(history), "steps": kept}
        return Trained(model.eval(), facts)

    def _train(
        self,
        config: ModelConfig,
        recipe: TrainConfig,
        path: Path,
        identity: dict[str, str],
        seed: int,
    ) -> None:
        """Train a model and write its weights to the path."""
        if not ranks.rank():
            ranks.announce((config, recipe, path, identity, seed))
        model = self._fresh(config, seed)
        what = f"training {recipe.steps} steps of {recipe.batch} x {recipe.seq} tokens"
        self.say(f"{config.name}: {what}" + (f", seed {seed}" if seed != self.seed else ""))
        tracked = recipe.track_energy and config.has_flow
        with ExitStack() as stack:
            observers = [] if ranks.rank() else self.observers(config.name)
            for observer in observers:
                stack.callback(observer.close)
            training = Training(
                model,
                lambda step: (self.batches or self._text)(step, recipe, seed),
                None if self.batches else lambda: self._validation_loss(model, recipe),
                recipe,
                seed=seed,
                device=self.device,
                path=path,
                identity=identity,
                about=description(config, recipe, self.corpus, seed),
                observers=observers,
                probe=(lambda: self._drift(model)) if tracked else None,
                trunk=self._trunk(config, recipe, seed),
            )
            with ranks.ending_together(but=TrainingDiverged):
                training.run()

    def follow(self) -> None:
        """Take part in the trainings that rank 0 announces, until it has none left."""
        while request := ranks.receive():
            with suppress(TrainingDiverged):  # which all ranks see, and rank 0 reports
                self._train(*request)

    def _trunk(self, config: ModelConfig, recipe: TrainConfig, seed: int) -> Trunk | None:
        """Return where trainings of this recipe with other budgets leave their state."""
        fractions = recipe.average_start or recipe.entropic.score != "off"  # of the budget
        if recipe.schedule != "wsd" or fractions:
            return None
        any_budget = dataclasses.replace(recipe, steps=1, decay=1.0, final_lr=1.0)
        name = weights_hash(config, any_budget, self.corpus, seed, self.device)
        return Trunk(self.cache / "weights", name)

    def _text(self, step: int, recipe: TrainConfig, seed: int) -> Batch:
        tokens = self.corpus.splits["train"].tokens
        return training_batch(tokens, step, batch=recipe.batch, seq=recipe.seq, seed=seed)

    def _validation_loss(self, model: LanguageModel, recipe: TrainConfig) -> float:
        tokens, seq = self.corpus.splits["validation"].tokens, recipe.seq
        batches = scoring_batches(
            tokens[: recipe.validate_tokens],
            eos=self.corpus.eos,
            batch=recipe.batch,
            seq=seq,
            stride=seq,
        )
        how = {"precision": recipe.precision, "loss_chunk": recipe.loss_chunk}
        return score(model, batches, device=self.device, **how).nats_per_token

    def _drift(self, model: LanguageModel) -> dict[str, Any]:
        """Measure the drift of every layer at bench.energy's defaults, on a few tokens."""
        tokens = self.corpus.splits["validation"].tokens[None, :PROBE_TOKENS].to(self.device)
        steps, dt = EnergyConfig().steps, EnergyConfig().dt
        with mode(model, training=False), torch.no_grad(), autocast(self.device, "fp32"):
            traces = [energies(*start, steps=steps, dt=dt) for start in flow_starts(model, tokens)]
        return {
            "max_drift": [t.worst for t in traces],
            "mean_drift": [t.mean_drift.mean().item() for t in traces],
        }

    def _fresh(self, config: ModelConfig, seed: int) -> LanguageModel:
        torch.manual_seed(seed)
        return build_model(config, self.corpus.vocab_size).to(self.device)


def _labelled(trained: Trained, config: ModelConfig) -> Trained:
    """Add a notice and an entry in the origin if the flow is not run as it was trained."""
    then, now = config.as_trained().ode, config.ode
    if not config.has_flow or then == now:
        return trained
    trained_with, run_by = (
        f"{ode.steps} step{'s' if ode.steps > 1 else ''} of {ode.dt:g} ({ode.integrator})"
        for ode in (then, now)
    )
    notice = f"the weights were trained with {trained_with}; here their flow is run by {run_by}"
    ode = {key: getattr(then, key) for key in ("steps", "dt", "integrator")}
    origin, notices = trained.origin | {"trained_ode": ode}, [*trained.notices, notice]
    return dataclasses.replace(trained, origin=origin, notices=notices)
