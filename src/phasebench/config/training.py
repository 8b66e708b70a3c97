"""The text that models are trained on, and the recipe of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phasebench.config.fields import ConfigError, count, positive, probability, spec
from phasebench.config.model import PRECISIONS

DATASETS = ("auto", "wikitext2", "wikitext103", "text", "synthetic")
SPLITS = ("train", "validation", "test")
Decay = Literal[
    "weight_decay", "embedding_decay", "potential_decay"
]  # the keys of TrainConfig that decay parameters


@dataclass
class SyntheticConfig:
    """The seeded source of text whose entropy rate is known (see phasebench.data.synthetic)."""

    rows: int = spec(6000, "rows (documents) over all splits", low=20)
    seed: int = spec(0, "seed of the source's tables and of its text", low=0, high=2**32 - 1)


@dataclass
class DataConfig:
    """The text, its splits and its tokenizer."""

    name: str = spec(
        "auto", "the text; auto: WikiText-2 where it can be had, else synthetic", choices=DATASETS
    )
    path: str | None = spec(
        None, "wikitext: a folder laid out like the hub's repository; text: a file", path=True
    )
    hub: str = spec("Salesforce/wikitext", "the data set's repository on the hub")
    revision: str = spec("b08601e04326c79dfdd32d625aee71d232d685c3", "commit of that repository")
    timeout_s: float = positive(10.0, "seconds after which a missing network is given up on")
    tokenizer: str = spec(
        "auto",
        "tokenizer; auto: wordlevel for synthetic, bpe otherwise; hf:NAME: of a folder or a model "
        "of the hub",
        choices=("auto", "bpe", "wordlevel", "gpt2"),
        prefix="hf:",
    )
    vocab_size: int = spec(50257, "types of the bpe tokenizer", low=260)
    held_out: float = spec(
        0.1, "fraction of a text file in each of validation and test", above=0.0, high=0.4
    )
    synthetic: SyntheticConfig = spec(SyntheticConfig)


@dataclass
class DialecticConfig:
    """The strongest objection to the target's claim that a training has to stand."""

    margin: float = spec(
        0.0,
        "how far the target's row of the head is moved against it, as a fraction of the row's "
        "length (docs/stage3.md); not in evaluation",
        low=0.0,
    )


@dataclass
class EntropicConfig:
    """Which tokens of a batch a training scores; all are read."""

    score: str = spec(
        "off",
        "tokens with the largest of these are scored: surprisal, the entropy of the prediction, "
        "or excess, their difference; random: a control; off: all tokens",
        choices=("off", "excess", "surprisal", "entropy", "random"),
    )
    keep: float = spec(0.6, "fraction of the tokens down to which they count", above=0.0, high=1.0)
    noise: float = spec(
        0.0, "fraction of the tokens, the very largest, that do not count", low=0.0, high=1.0
    )
    warmup: float = spec(0.1, "first fraction of the steps, which score all", low=0.0, high=1.0)
    release: float = spec(0.3, "last fraction of the steps, which score all", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if self.noise >= self.keep:
            problem = f"nothing is left of keep={self.keep}"
            raise ConfigError("noise", self.noise, problem, "noise below keep")
        if self.score == "random" and self.noise:
            problem = "score=random is a control, which has no largest tokens"
            raise ConfigError("noise", self.noise, problem, "noise=0")
        if self.score != "off" and self.warmup + self.release >= 1:
            problem = f"no step selects between it and release={self.release}"
            raise ConfigError("warmup", self.warmup, problem, "warmup + release below 1")


@dataclass
class TrainConfig:
    """The recipe and the budget with which a benchmark that has no checkpoint trains one."""

    steps: int = count(2000, "optimizer steps")
    epochs: float | None = positive(
        None, "passes over the training split; if given, steps follows from it"
    )
    batch: int = count(16, "sequences a step (over all accumulated parts)")
    seq: int = spec(512, "tokens a sequence", low=2)
    accumulate: int = count(1, "parts into which a batch is split")
    optimizer: str = spec(
        "adamw",
        "AdamW for all, or muon: Muon for matrices but tables, AdamW for the rest, at one rate",
        choices=("adamw", "muon"),
    )
    lr: float = positive(1e-3, "peak learning rate")
    schedule: str = spec(
        "cosine",
        "learning rate after the warm-up: half a cosine, or wsd: constant, then a short decay, so "
        "that a longer training begins with the constant part of a shorter one",
        choices=("cosine", "wsd"),
    )
    decay: float = spec(
        0.2, "fraction of the steps in which wsd decays the rate", above=0.0, high=1.0
    )
    final_lr: float = spec(
        0.1, "learning rate at the end of the schedule, as a fraction of lr", low=0.0, high=1.0
    )
    warmup: int = spec(100, "steps of linear warm-up", low=0)
    weight_decay: float = spec(
        0.1, "weight decay of matrices; never of biases, gains, embeddings and potentials", low=0.0
    )
    potential_decay: float = spec(
        0.0, "weight decay of the matrix W of Stage 2's potentials", low=0.0
    )
    embedding_decay: float = spec(
        0.0, "weight decay of the embedding's table and of learned positions", low=0.0
    )
    beta1: float = spec(0.9, "AdamW's decay of the mean gradient", low=0.0, high=0.9999)
    beta2: float = spec(0.95, "AdamW's decay of the mean squared gradient", low=0.0, high=0.9999)
    clip: float = positive(1.0, "largest norm of the whole gradient; a larger one is scaled down")
    precision: str = spec(
        "bf16", "precision of the matrix products; weights stay in float32", choices=PRECISIONS
    )
    loss_chunk: int = count(4096, "tokens whose logits exist at one time")
    validate_every: int = count(250, "steps between two validations")
    validate_tokens: int = count(65536, "tokens of the validation split that are scored each time")
    label_smoothing: float = probability(
        about="fraction of a target that all types share equally; not in evaluation"
    )
    dialectic: DialecticConfig = spec(DialecticConfig)
    entropic: EntropicConfig = spec(EntropicConfig)
    average: str = spec(
        "off",
        "average of the weights, which is then validated, stored and measured",
        choices=("off", "ema", "tail"),
    )
    average_decay: float = spec(
        0.999, "decay of ema, a step (tail: the plain mean)", low=0.0, high=0.999999
    )
    average_start: float = spec(
        0.0, "fraction of the steps that are left out of the average", low=0.0, high=1.0
    )
    track_energy: bool = spec(
        False, "record the drift of every layer of Stage 2 at each validation"
    )
    patience: int | None = count(
        None, "validations without improvement before an early stop; null: never"
    )
    checkpoint_every: int = count(250, "steps after which a killed training can go on")
    compile: bool = spec(
        False, "on a GPU: torch.compile of both stages' blocks, in training only; small steps gain"
    )
    graph: bool = spec(
        False, "on a GPU: record an optimizer step as a CUDA graph and replay it; small steps gain"
    )
    tensorboard: bool = spec(
        False, "write the training's scalars for TensorBoard beside the results"
    )

    def __post_init__(self) -> None:
        if self.batch % self.accumulate:
            raise ConfigError(
                "accumulate",
                self.accumulate,
                f"does not divide batch={self.batch}",
                f"choose a divisor of {self.batch}",
            )
        if self.label_smoothing and self.dialectic.margin:
            problem = (
                f"controls train.dialectic.margin={self.dialectic.margin}, and is not for both"
            )
            fix = "train.label_smoothing=0, or train.dialectic.margin=0"
            raise ConfigError("label_smoothing", self.label_smoothing, problem, fix)
        if self.graph and self.precision == "fp16":
            raise ConfigError(
                "graph",
                True,
                "the loss scaler of precision=fp16 asks the host in each step",
                "train.precision=bf16, or train.graph=false",
            )

    @property
    def plain(self) -> bool:
        """Return whether the mean cross-entropy of all tokens is what a training minimises."""
        own = self.dialectic.margin or self.label_smoothing
        return not own and self.entropic.score == "off"
