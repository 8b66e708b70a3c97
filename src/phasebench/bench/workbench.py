"""What the benchmarks of one run share: device, text and trained weights, each made when first asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from phasebench import data
from phasebench.config import (
    Config,
    ConfigError,
    DataConfig,
    EnergyConfig,
    ModelConfig,
    OdeConfig,
    TrainConfig,
)
from phasebench.data import Corpus
from phasebench.dynamics.energy import energies, flow_starts
from phasebench.models import LanguageModel, build_model, require
from phasebench.training import checkpoint
from phasebench.training import loop as training
from phasebench.training import scoring as evaluation
from phasebench.training.device import resolve_device
from phasebench.training.fingerprint import content_hash
from phasebench.training.identity import shape, weights_hash
from phasebench.training.loop import History
from phasebench.training.progress import (
    Observer,
    Observers,
    TensorBoardObserver,
    console_observer,
    summary_writer,
)

_CURVE = 120  # points of a training's history that results.json keeps
_PROBED = 256  # tokens whose drift is tracked through a training
_corpora: dict[str, Corpus] = {}  # the last one read


@dataclass(frozen=True)
class Trained:
    """A model with trained weights, and where they come from."""

    model: LanguageModel
    origin: dict[str, Any]  # JSON-able: trained now, cached or given; steps, seconds, history
    notices: list[str] = field(default_factory=list)  # what a reader of the results must know


class Workbench:
    """Device, text and trained weights of one run.

    Args:
        config: the run.
        out: folder of the run, for what is written beside results.json.
        console: where progress and notices go.
    """

    def __init__(self, config: Config, out: Path, console: Console) -> None:
        self.config, self.out, self.console = config, out, console
        self.device = resolve_device(config.device)
        self.cache = Path(config.cache_dir).expanduser()
        self._trained: dict[tuple[str, str], Trained] = {}

    def say(self, text: str, style: str = "") -> None:
        """Tell the user, now."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @cached_property
    def corpus(self) -> Corpus:
        """The text, with its tokenizer."""
        corpus, is_new = _corpus(self.config.data, self.cache)
        if is_new:
            self.say(
                f"data: {corpus.source}; {corpus.tokenizer_name} tokenizer, {corpus.vocab_size:,} types"
            )
        if is_new and corpus.notice:
            self.say(f"NOTICE: {corpus.notice}", style="bold yellow")
        return corpus

    @property
    def needs_text(self) -> bool:
        """Whether any of the run's benchmarks reads text: memory depends on sizes only."""
        return any(name in self.config.bench for name in ("ppl", "energy"))

    @property
    def corpus_name(self) -> str | None:
        """Name of the text in use, or None where none is needed."""
        return self.corpus.name if self.needs_text else None

    @property
    def vocab_size(self) -> int | None:
        """Types of the tokenizer in use, or None where no text is needed."""
        return self.corpus.vocab_size if self.needs_text else None

    def text_facts(self) -> dict[str, Any]:
        """What results.json says of the text."""
        corpus = self.corpus
        return {
            "name": corpus.name,
            "source": corpus.source,
            "comparable": corpus.comparable,
            "notice": corpus.notice,
            "tokenizer": corpus.tokenizer_name,
            "vocab_size": corpus.vocab_size,
            "fingerprint": corpus.fingerprint,
            "tokens": {name: len(split.tokens) for name, split in corpus.splits.items()},
        }

    def prepare(self) -> None:
        """Fail early: load the text and open the given checkpoints before anything is measured or written."""
        if not self.needs_text:
            return
        if self.config.train.tensorboard:
            summary_writer()
        recipe, tokens = self.config.train, self.corpus.splits["train"].tokens
        data.training_batch(tokens, 0, batch=1, seq=recipe.seq, seed=0)
        for config, key in self._models():
            require(config, key)
            self._check_positions(config, key)
            self._check_recording(config, key)
            if config.checkpoint:
                self.trained(config, key)

    def _models(self) -> list[tuple[ModelConfig, str]]:
        ppl = self.config.bench.get("ppl")
        others = (
            [(ppl.baseline, "bench.ppl.baseline"), (ppl.reference, "bench.ppl.reference")]
            if ppl
            else []
        )
        return [(self.config.model, "model"), *((config, key) for config, key in others if config)]

    def _check_recording(self, config: ModelConfig, key: str) -> None:
        if self.config.train.graph and set(config.recompute) - {"head"}:
            raise ConfigError(
                "train.graph",
                True,
                "a recording cannot draw the random numbers again of "
                f"{key}.recompute={config.recompute}",
                f"{key}.recompute=[head]",
            )

    def _check_positions(self, config: ModelConfig, key: str) -> None:
        lengths = {"train.seq": self.config.train.seq}
        if "ppl" in self.config.bench:
            lengths["bench.ppl.seq"] = self.config.bench["ppl"].seq
        longest = max(lengths, key=lambda name: lengths[name])
        if config.name == "gpt" and lengths[longest] > config.positions:
            raise ConfigError(
                f"{key}.positions",
                config.positions,
                f"{longest} is {lengths[longest]}: gpt has learned positions",
                f"{longest}={config.positions}, or more of both",
            )

    def recipe(self, config: ModelConfig) -> TrainConfig:
        """A model's own recipe: with its learning rate and weight decay, and with steps for train.epochs."""
        common, tokens = self.config.train, len(self.corpus.splits["train"].tokens)
        steps = common.steps
        if common.epochs is not None:
            steps = data.steps_of(common.epochs, tokens, batch=common.batch, seq=common.seq)
        decay = common.weight_decay if config.weight_decay is None else config.weight_decay
        return dataclasses.replace(
            common, steps=steps, lr=config.lr or common.lr, weight_decay=decay
        )

    def trained(self, config: ModelConfig, key: str, seed: int | None = None) -> Trained:
        """The model of config with trained weights: the given checkpoint's, cached ones, or newly trained.

        `key` is the dotted name of config, for messages; the training's seed is that of the run where none is given.
        """
        seed = self.config.seed if seed is None else seed
        name = weights_hash(config, self.recipe(config), self.corpus, seed, self.device)
        own = name, str(config.ode)  # one set of weights may be run by several
        if own not in self._trained:
            given = config.checkpoint is not None
            found = self._given(config, key) if given else self._cached(config, name, seed)
            self._trained[own] = _labelled(found, config)
        return self._trained[own]

    def _given(self, config: ModelConfig, key: str) -> Trained:
        model = self._fresh(config, self.config.seed)
        path = Path(str(config.checkpoint)).expanduser()
        metadata = checkpoint.load_weights(
            model,
            path,
            expected=shape(config, self.corpus),
            key=f"{key}.checkpoint",
            fix=_fix(config, key),
        )
        done, wanted = int(metadata.get("step", 0)), self.recipe(config).steps
        unfinished = (
            [f"{path.name} is of an unfinished training: {done} steps"]
            if "scaler" in metadata
            else []
        )
        origin = {
            "origin": "given",
            "file": path.name,
            "steps_done": done,
            "steps_of_recipe": wanted,
        }
        return Trained(model.eval(), origin, unfinished)

    def _cached(self, config: ModelConfig, name: str, seed: int) -> Trained:
        path = self.cache / "weights" / f"{config.name}-{name[:16]}.safetensors"
        if path.exists():
            return self._stored(config, path)
        with self._lock(path):  # two runs that need the same weights train them once
            if path.exists():
                return self._stored(config, path)
            trained = self._train(config.as_trained(), path, name, seed)
            if config.ode == config.as_trained().ode:
                return trained
            return dataclasses.replace(trained, model=self._stored(config, path).model)

    def _stored(self, config: ModelConfig, path: Path) -> Trained:
        model, fix = (
            self._fresh(config, self.config.seed),
            f"delete {path}: it is then trained again",
        )
        metadata = checkpoint.load_weights(
            model, path, expected=shape(config, self.corpus), key="cache_dir", fix=fix
        )
        self.say(f"{config.name}: reusing trained weights {path.name}")
        return _with_history(model, "cache", path, History.of(metadata))

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.say(f"waiting for another run, which trains {path.name}")
                lock.acquire()
        except OSError as error:
            raise ConfigError(
                "cache_dir",
                self.cache,
                f"cannot be written: {error.strerror}",
                "cache_dir=FOLDER that you may write to",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def release(self) -> None:
        """Give back the memory of the weights; they are loaded from the cache if asked for again."""
        self._trained.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _train(self, config: ModelConfig, path: Path, name: str, seed: int) -> Trained:
        recipe, tokens = self.recipe(config), self.corpus.splits["train"].tokens
        model = self._fresh(config, seed)
        what = f"training {recipe.steps} steps of {recipe.batch} x {recipe.seq} tokens"
        self.say(f"{config.name}: {what}" + (f", seed {seed}" if seed != self.config.seed else ""))
        tracked = recipe.track_energy and config.name == "stage2"
        with contextlib.closing(self._observer(config.name)) as observer:
            history = training.train(
                model,
                lambda step: data.training_batch(
                    tokens, step, batch=recipe.batch, seq=recipe.seq, seed=seed
                ),
                lambda: self._validation_loss(model, recipe),
                recipe,
                seed=seed,
                device=self.device,
                path=path,
                identity={"weights": name, **shape(config, self.corpus)},
                observer=observer,
                probe=(lambda: self._drift(model)) if tracked else None,
            )
        return _with_history(model, "trained", path, history)

    def _validation_loss(self, model: LanguageModel, recipe: TrainConfig) -> float:
        tokens = self.corpus.splits["validation"].tokens[: recipe.validate_tokens]
        batches = data.scoring_batches(
            tokens, eos=self.corpus.eos, batch=recipe.batch, seq=recipe.seq, stride=recipe.seq
        )
        score = evaluation.score(
            model,
            batches,
            device=self.device,
            precision=recipe.precision,
            loss_chunk=recipe.loss_chunk,
        )
        return score.nats_per_token

    def _drift(self, model: LanguageModel) -> dict[str, Any]:
        """What a tracked training records: the drift of every layer at bench.energy's defaults, on a few tokens."""
        tokens = self.corpus.splits["validation"].tokens[None, :_PROBED].to(self.device)
        steps, dt = EnergyConfig().steps, EnergyConfig().dt
        with (
            evaluation.mode(model, training=False),
            torch.no_grad(),
            evaluation.autocast(self.device, "fp32"),
        ):
            traces = [energies(*start, steps=steps, dt=dt) for start in flow_starts(model, tokens)]
        return {
            "max_drift": [t.worst for t in traces],
            "mean_drift": [t.mean_drift.mean().item() for t in traces],
        }

    def _observer(self, name: str) -> Observer:
        console = console_observer(name, self.console)
        if not self.config.train.tensorboard:
            return console
        return Observers(console, TensorBoardObserver(self.out / "tensorboard" / name))

    def _fresh(self, config: ModelConfig, seed: int) -> LanguageModel:
        torch.manual_seed(seed)
        return build_model(config, self.corpus.vocab_size).to(self.device)


def require_ode(config: Config) -> None:
    """Raise `ConfigError` for a model without an ODE."""
    if config.model.name != "stage2":
        raise ConfigError(
            "model", config.model.name, "has no ODE (Hamiltonian flow) to measure", "model=stage2"
        )


def _fix(config: ModelConfig, key: str) -> str:
    """What to do about a given checkpoint that is of other weights than the model's."""
    trained = (
        f", {key}.trained_ode (steps, dt, integrator) as they were trained"
        if config.name == "stage2"
        else ""
    )
    return (
        f"give the weights of this model and data{trained}, or {key}.checkpoint=null to train them"
    )


def _labelled(trained: Trained, config: ModelConfig) -> Trained:
    """The same with a notice, and an entry in its origin, if its flow is not run as it was trained."""
    then, now = config.as_trained().ode, config.ode
    if config.name != "stage2" or then == now:
        return trained
    notice = f"the weights were trained with {_in_words(then)}; here their flow is run by {_in_words(now)}"
    origin = {key: getattr(then, key) for key in ("steps", "dt", "integrator")}
    return dataclasses.replace(
        trained, origin=trained.origin | {"trained_ode": origin}, notices=[*trained.notices, notice]
    )


def _in_words(ode: OdeConfig) -> str:
    """
    >>> _in_words(OdeConfig(steps=5, dt=0.2))
    '5 steps of 0.2 (leapfrog)'
    """
    return f"{ode.steps} step{'s' if ode.steps > 1 else ''} of {ode.dt:g} ({ode.integrator})"


def _corpus(config: DataConfig, cache: Path) -> tuple[Corpus, bool]:
    """The text, and whether it was read now: points of a sweep that share a process read it once, until it changes."""
    content = content_hash(Path(config.path).expanduser()) if config.path else None
    key = json.dumps([dataclasses.asdict(config), content, str(cache)])
    if key in _corpora:
        return _corpora[key], False
    _corpora.clear()
    _corpora[key] = data.load_corpus(config, cache)
    return _corpora[key], True


def _with_history(model: LanguageModel, origin: str, path: Path, history: History) -> Trained:
    found = dataclasses.asdict(history)
    every = -(-len(history.steps) // _CURVE) or 1
    found["steps"] = [
        record
        for i, record in enumerate(history.steps)
        if not i % every or record is history.steps[-1]
    ]
    return Trained(model.eval(), {"origin": origin, "file": path.name, **found})
