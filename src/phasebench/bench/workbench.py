"""What the benchmarks of one run share: device, text and trained weights, each made when first
asked for.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from phasebench.bench import estimate
from phasebench.config import (
    TRAINING,
    Config,
    ConfigError,
    ModelConfig,
    ScoringConfig,
    SplitConfig,
)
from phasebench.config.files import user_path
from phasebench.data import Corpus, load_corpus, scoring_batches, training_batch
from phasebench.dynamics.energy import Start, flow_starts
from phasebench.models import LanguageModel, require
from phasebench.models.huggingface import opened
from phasebench.results.progress import track
from phasebench.training import ranks
from phasebench.training.progress import (
    ConsoleObserver,
    Observer,
    TensorBoardObserver,
    summary_writer,
)
from phasebench.training.scoring import Score, resolve_device, score
from phasebench.training.weights import Trained, WeightSource


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
        self.cache = user_path(config.cache_dir, "cache_dir")
        self._corpora: dict[str, Corpus] = {}

    def say(self, text: str, style: str = "") -> None:
        """Tell the user a line, now."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @cached_property
    def corpus(self) -> Corpus:
        """The text, with its tokenizer."""
        return load_corpus(self.config.data, self.cache, self.say)

    def corpus_of(self, model: ModelConfig) -> Corpus:
        """Return the text in the model's tokens: given weights of hf have their own tokenizer."""
        if model.name != "hf" or not model.checkpoint:
            return self.corpus
        name = f"hf:{model.checkpoint}"
        if name not in self._corpora:
            data = dataclasses.replace(self.config.data, tokenizer=name)
            self._corpora[name] = load_corpus(data, self.cache, self.say)
        return self._corpora[name]

    @cached_property
    def weights(self) -> WeightSource:
        """Trained models, on the run's text and device."""
        return WeightSource(
            self.corpus,
            self.config.train,
            seed=self.config.seed,
            device=self.device,
            cache=self.cache,
            say=self.say,
            observers=self.observers,
        )

    def trained(self, config: ModelConfig, key: str, seed: int | None = None) -> Trained:
        """Return a trained model; see `WeightSource.trained`."""
        return self.weights.trained(config, key, seed)

    def release(self) -> None:
        """Give back the memory of the trained models, and what torch's allocator keeps."""
        if "weights" in vars(self):
            self.weights.release()
        gc.collect()  # what a benchmark that failed has left
        torch.cuda.empty_cache()

    @property
    def needs_text(self) -> bool:
        """Whether any of the run's benchmarks reads text: memory depends on sizes only."""
        return any(name in self.config.bench for name in TRAINING)

    def text_facts(self) -> dict[str, Any]:
        """What results.json says of the text."""
        names = ("name", "source", "comparable", "notice", "vocab_size", "fingerprint")
        return {name: getattr(self.corpus, name) for name in names} | {
            "tokenizer": self.corpus.tokenizer_name,
            "tokens": {name: len(split.tokens) for name, split in self.corpus.splits.items()},
        }

    def prepare(self) -> None:
        """Fail early: load the text and open the given checkpoints before anything is measured or
        written.
        """
        estimate.check(self.config, self.device)
        if not self.needs_text:
            return
        if self.config.train.tensorboard:
            summary_writer()
        recipe, tokens = self.config.train, self.corpus.splits["train"].tokens
        estimate.check(self.config, self.device, len(tokens))
        training_batch(tokens, 0, batch=1, seq=recipe.seq, seed=0)
        parts = recipe.accumulate * ranks.size()
        if recipe.batch % parts:
            problem = f"cannot be split into {parts} parts, which train.accumulate and "
            problem += f"{ranks.size()} processes ask for"
            fix = f"train.batch={-(-recipe.batch // parts) * parts}"
            raise ConfigError("train.batch", recipe.batch, problem, fix)
        models = {"model": self.config.model}  # by key
        for name, bench in self.config.bench.items():
            if isinstance(bench, ScoringConfig):
                models |= roles(self.config, name, bench).values()
        for key, model in models.items():
            require(model, key)
            if model.architecture and not recipe.plain:
                problem = "is trained by the plain objective only"
                fix = "train.dialectic.margin=0 train.label_smoothing=0 train.entropic.score=off"
                raise ConfigError(f"{key}.architecture", model.architecture, problem, fix)
            check_positions(model, key, self._lengths(model))
            if recipe.graph and set(model.recompute) - {"head"}:
                raise ConfigError(
                    "train.graph",
                    True,
                    "a recording cannot draw the random numbers again of "
                    f"{key}.recompute={model.recompute}",
                    f"{key}.recompute=[head]",
                )
            if model.checkpoint:
                self.trained(model, key)

    def _lengths(self, model: ModelConfig) -> dict[str, int]:
        """Return the tokens that a sequence has, by key."""
        lengths = {} if model.checkpoint else {"train.seq": self.config.train.seq}
        for name, bench in self.config.bench.items():
            if isinstance(bench, SplitConfig):
                lengths[f"bench.{name}.seq"] = bench.seq
        return lengths

    def observers(self, name: str) -> list[Observer]:
        """Make what is told of the steps of a training of the model of this name."""
        observers: list[Observer] = [ConsoleObserver(name)]
        if self.config.train.tensorboard:
            observers.append(TensorBoardObserver(self.out / "tensorboard" / name))
        return observers


def check_positions(model: ModelConfig, key: str, lengths: Mapping[str, int]) -> None:
    """Raise `ConfigError` for a sequence with more tokens than the model has positions."""
    longest = max(lengths, key=lambda name: lengths[name], default="")
    positions = model.positions if model.name == "gpt" else None
    if model.name == "hf":
        positions = getattr(opened(model, key)[1], "max_position_embeddings", None)
    if positions and longest and lengths[longest] > positions:
        problem = f"{longest} is {lengths[longest]}: {model.name} has no more positions"
        raise ConfigError(f"{key}.positions", positions, problem, f"{longest}={positions}")


def roles(config: Config, name: str, bench: ScoringConfig) -> dict[str, tuple[str, ModelConfig]]:
    """Return the key and the model of each role of a comparison by the benchmark `name`."""
    models = {"baseline": bench.baseline, "reference": bench.reference}
    others = {role: (f"bench.{name}.{role}", model) for role, model in models.items() if model}
    return {"candidate": ("model", config.model), **others}


def score_split(
    workbench: Workbench,
    model: LanguageModel,
    split: str,
    *,
    batch: int,
    seq: int,
    stride: int | None = None,
    precision: str = "fp32",
    max_batches: int | None = None,
    corpus: Corpus | None = None,
) -> Score:
    """Score a model on a split of the run's text, or of corpus: `scoring_batches` and `score`."""
    corpus = corpus or workbench.corpus
    tokens = corpus.splits[split].tokens
    batches = scoring_batches(tokens, eos=corpus.eos, batch=batch, seq=seq, stride=stride or seq)
    count = min(-(-len(tokens) // (batch * (stride or seq))), max_batches or len(tokens))
    return score(
        model,
        track(batches, f"scoring {split}, batches", count),
        device=workbench.device,
        precision=precision,
        loss_chunk=workbench.config.train.loss_chunk,
        max_batches=max_batches,
    )


def starts_of_text(
    workbench: Workbench, model: LanguageModel, split: str, *, states: int, batch: int, seq: int
) -> list[Start]:
    """Return each layer's flow with q and p (rows, seq, D) of the split's first `states` tokens.

    In whole sequences, read `batch` at a time; fewer where the split has fewer.
    """
    tokens = workbench.corpus.splits[split].tokens
    rows = max(1, min(-(-states // seq), len(tokens) // seq))
    parts = tokens[: rows * seq].view(rows, seq).to(workbench.device).split(batch)
    starts = [flow_starts(model, part) for part in parts]
    layers = [zip(*layer, strict=True) for layer in zip(*starts, strict=True)]
    return [(flows[0], torch.cat(qs), torch.cat(ps)) for flows, qs, ps in layers]


def require_ode(workbench: Workbench, config: object) -> None:
    """Raise `ConfigError` for a model without an ODE: the `check` of a bench that measures it."""
    if not (model := workbench.config.model).has_flow:
        problem = "has no ODE (Hamiltonian flow) to measure"
        raise ConfigError("model", model.name, problem, "model=stage2, or stage3")


def require_reference(model: ModelConfig | None, bench: str, seq: int) -> None:
    """Raise `ConfigError` for a bench's reference that cannot be made, or has fewer positions than
    a sequence; None is no reference.
    """
    if model:
        require(model, f"bench.{bench}.reference")
        check_positions(model, f"bench.{bench}.reference", {f"bench.{bench}.seq": seq})


def untrained(model: ModelConfig) -> ModelConfig:
    """Return the model with fresh weights: time and memory depend on its sizes alone."""
    if model.name != "hf" or not model.checkpoint:
        return model
    return dataclasses.replace(model, checkpoint=None, architecture=model.checkpoint)
