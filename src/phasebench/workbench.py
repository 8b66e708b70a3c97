"""What the benchmarks of one run share: device, text and trained weights, each made when first asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from phasebench import checkpoint, data, evaluation, training
from phasebench.config import Config, ConfigError, ModelConfig, TrainConfig
from phasebench.data import Corpus
from phasebench.measure.device import device_name, resolve_device
from phasebench.models import LanguageModel, build_model
from phasebench.progress import Observer, Observers, TensorBoardObserver, console_observer, summary_writer
from phasebench.training import History

# of a recipe, what leaves the weights as they are
_NO_EFFECT = ("tensorboard", "checkpoint_every")
# the packages and modules whose code determines the weights
_CODE = (
    "nn/", "dynamics/", "models/", "data/batches.py", "training.py", "update.py", "optimizer.py", "evaluation.py",
    "workbench.py",  # whose validation loss picks the best weights
)  # fmt: skip


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
        self._trained: dict[str, Trained] = {}

    def say(self, text: str, style: str = "") -> None:
        """Tell the user, now."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @cached_property
    def corpus(self) -> Corpus:
        """The text, with its tokenizer."""
        corpus = data.load_corpus(self.config.data, self.cache)
        self.say(f"data: {corpus.source}; {corpus.tokenizer_name} tokenizer, {corpus.vocab_size:,} types")
        if corpus.notice:
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
            "name": corpus.name, "source": corpus.source, "comparable": corpus.comparable, "notice": corpus.notice,
            "tokenizer": corpus.tokenizer_name, "vocab_size": corpus.vocab_size, "fingerprint": corpus.fingerprint,
            "tokens": {name: len(split.tokens) for name, split in corpus.splits.items()},
        }  # fmt: skip

    def prepare(self) -> None:
        """Fail early: load the text and open the given checkpoints before anything is measured or written."""
        if not self.needs_text:
            return
        if self.config.train.tensorboard:
            summary_writer()
        recipe, tokens = self.config.train, self.corpus.splits["train"].tokens
        data.training_batch(tokens, 0, batch=1, seq=recipe.seq, seed=0)
        for config, key in self._models():
            if config.checkpoint:
                self.trained(config, key)

    def _models(self) -> list[tuple[ModelConfig, str]]:
        ppl = self.config.bench.get("ppl")
        baseline = [(ppl.baseline, "bench.ppl.baseline")] if ppl and ppl.baseline else []
        return [(self.config.model, "model"), *baseline]

    def trained(self, config: ModelConfig, key: str) -> Trained:
        """The model of config with trained weights: the given checkpoint's, cached ones, or newly trained.

        `key` is the dotted name of config, for messages.
        """
        name = self._weights_hash(config)
        if name not in self._trained:
            self._trained[name] = self._given(config, key) if config.checkpoint else self._cached(config, name)
        return self._trained[name]

    def _given(self, config: ModelConfig, key: str) -> Trained:
        model = self._fresh(config)
        path = Path(str(config.checkpoint)).expanduser()
        metadata = checkpoint.load_weights(model, path, expected=self._shape(config), key=f"{key}.checkpoint")
        done, wanted = int(metadata.get("step", 0)), self.config.train.steps
        unfinished = [f"{path.name} is of an unfinished training: {done} steps"] if "scaler" in metadata else []
        origin = {"origin": "given", "file": path.name, "steps_done": done, "steps_of_recipe": wanted}
        return Trained(model.eval(), origin, unfinished)

    def _cached(self, config: ModelConfig, name: str) -> Trained:
        path = self.cache / "weights" / f"{config.name}-{name[:16]}.safetensors"
        if path.exists():
            return self._stored(config, path)
        with self._lock(path):  # two runs that need the same weights train them once
            return self._stored(config, path) if path.exists() else self._train(config, path, name)

    def _stored(self, config: ModelConfig, path: Path) -> Trained:
        model, fix = self._fresh(config), f"delete {path}: it is then trained again"
        metadata = checkpoint.load_weights(model, path, expected=self._shape(config), key="cache_dir", fix=fix)
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
            raise ConfigError("cache_dir", self.cache, f"cannot be written: {error.strerror}",
                              "cache_dir=FOLDER that you may write to") from error  # fmt: skip
        try:
            yield
        finally:
            lock.release()

    def release(self) -> None:
        """Give back the memory of the weights; they are loaded from the cache if asked for again."""
        self._trained.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _train(self, config: ModelConfig, path: Path, name: str) -> Trained:
        recipe, corpus = self.config.train, self.corpus
        model = self._fresh(config)
        self.say(f"{config.name}: training {recipe.steps} steps of {recipe.batch} x {recipe.seq} tokens")
        tokens = corpus.splits["train"].tokens
        with contextlib.closing(self._observer(config.name)) as observer:
            history = training.train(
                model,
                lambda step: data.training_batch(
                    tokens, step, batch=recipe.batch, seq=recipe.seq, seed=self.config.seed
                ),
                lambda: self._validation_loss(model, recipe),
                recipe,
                seed=self.config.seed,
                device=self.device,
                path=path,
                identity={"weights": name, **self._shape(config)},
                observer=observer,
            )
        return _with_history(model, "trained", path, history)

    def _validation_loss(self, model: LanguageModel, recipe: TrainConfig) -> float:
        tokens = self.corpus.splits["validation"].tokens[: recipe.validate_tokens]
        batches = data.scoring_batches(
            tokens, eos=self.corpus.eos, batch=recipe.batch, seq=recipe.seq, stride=recipe.seq
        )
        score = evaluation.score(
            model, batches, device=self.device, precision=recipe.precision, loss_chunk=recipe.loss_chunk
        )
        return score.nats_per_token

    def _observer(self, name: str) -> Observer:
        console = console_observer(name, self.console)
        if not self.config.train.tensorboard:
            return console
        return Observers(console, TensorBoardObserver(self.out / "tensorboard" / name))

    def _fresh(self, config: ModelConfig) -> LanguageModel:
        torch.manual_seed(self.config.seed)
        return build_model(config, self.corpus.vocab_size).to(self.device)

    def _shape(self, config: ModelConfig) -> dict[str, str]:
        """What a checkpoint must agree with, by dotted key: the architecture and the tokenizer."""
        used = ("name", "dim", "blocks", "heads", "hidden", "rope_base")
        shape = {f"model.{key}": str(getattr(config, key)) for key in used}
        if config.name == "stage2":
            ode = dataclasses.asdict(config.ode)
            shape |= {
                f"model.ode.{key}": str(value) for key, value in ode.items() if key not in ("gradient", "on_overflow")
            }
        tokenizer = hashlib.sha256(self.corpus.tokenizer_json.encode()).hexdigest()
        return shape | {
            "tokenizer": f"{self.corpus.tokenizer_name} of {self.corpus.vocab_size} types, {tokenizer[:16]}"
        }

    def _weights_hash(self, config: ModelConfig) -> str:
        """Hash of everything that determines trained weights: model, recipe, text, seed, code, device, torch."""
        recipe = {k: v for k, v in dataclasses.asdict(self.config.train).items() if k not in _NO_EFFECT}
        determines = {
            "model": dataclasses.asdict(config), "recipe": recipe, "data": self.corpus.fingerprint,
            "seed": self.config.seed, "code": _code_hash(), "device": device_name(self.device),
            "torch": torch.__version__,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()


def require_ode(config: Config) -> None:
    """Raise `ConfigError` for a model without an ODE."""
    if config.model.name != "stage2":
        raise ConfigError("model", config.model.name, "has no ODE (Hamiltonian flow) to measure", "model=stage2")


def _with_history(model: LanguageModel, origin: str, path: Path, history: History) -> Trained:
    return Trained(model.eval(), {"origin": origin, "file": path.name, **dataclasses.asdict(history)})


def _code_hash() -> str:
    root = Path(__file__).parent
    files = sorted(f for f in root.rglob("*.py") if f.relative_to(root).as_posix().startswith(_CODE))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()
