"""The benchmarks of Stage 3: what each part does, what is recalled, and a linear operator."""

from __future__ import annotations

from dataclasses import dataclass

from phasebench.config.fields import (
    ConfigError,
    count,
    positive,
    probability,
    random_seeds,
    spec,
)
from phasebench.config.scoring import SplitConfig, distinct
from phasebench.config.training import SPLITS

PARTS = ("memory", "mera", "margin", "entropic")
RECALL_TASKS = ("needle", "many")
RECALL_ARMS = ("rope", "no_positions", "memory", "mera")
OBSERVABLES = ("linear", "force", "force_rate")  # of bench.koopman


@dataclass
class PartsConfig(SplitConfig):
    """A factorial over parts that the run has on: what each does to perplexity, time and memory."""

    parts: list[str] = spec(
        list(PARTS), "parts that are switched on and off, in all combinations", choices=PARTS
    )
    replicates: int = count(2, "trainings of each combination")
    seeds: list[int] | None = random_seeds(
        "random seeds to share out, balanced over parts; null: each training has its own, from "
        "seed on"
    )
    cells: list[int] | None = spec(
        None,
        "numbers, from 0, of trainings that this run may do; others come from the cache, or are "
        "missing; null: all",
        low=0,
    )
    match: str = spec(
        "hidden",
        "how parts that bring parameters are paid for: hidden is lowered in steps of 16; off: not",
        choices=("hidden", "off"),
    )
    label_smoothing: float = probability(
        about="train.label_smoothing of the trainings without margin: its control, of equal compute"
    )
    reverse: bool = spec(
        False,
        "whether to ask if the last block's flow, forwards and back in time, tells wrong from "
        "right predictions beyond entropy: one more gate (docs/stage3.md)",
    )
    target: float = positive(0.97, "gate: perplexity with all parts / with none at most")
    time_target: float = positive(1.1, "gate: time of a step with all parts / with none at most")
    tokens_target: float = positive(
        0.95, "gate: tokens read until a perplexity, with entropic / without, at most"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.parts)) < len(self.parts):
            raise ConfigError("parts", self.parts, "names a part twice", "name each once")
        if self.label_smoothing and "margin" not in self.parts:
            problem = f"controls the margin, and bench.parts.parts={self.parts} has none"
            fix = "bench.parts.label_smoothing=0"
            raise ConfigError("label_smoothing", self.label_smoothing, problem, fix)


@dataclass
class KoopmanBenchConfig:
    """A linear operator on observables, iterated over the time of every layer's flow."""

    states: int = count(20480, "states of real text: four fifths to fit, the others to judge")
    batch: int = count(4, "sequences of text read at one time")
    seq: int = spec(512, "tokens a sequence", low=2)
    split: str = spec("validation", "split of the text", choices=SPLITS)
    dt: float = positive(0.1, "time of the operator's step; divides the flow's")
    observables: list[str] = spec(
        list(OBSERVABLES),
        "functions of (q, p) that the operator acts on; it is fitted with the first, the first two "
        "and so on, and the best is judged",
        choices=OBSERVABLES,
    )
    target: float = positive(
        1.0, "gate: iterated error / that of free motion, and of leapfrog of equal cost, below"
    )
    seeds: list[int] | None = random_seeds(
        "random seeds whose weights are measured; null: seed alone"
    )

    def __post_init__(self) -> None:
        distinct(self.seeds)
        if self.observables[0] != "linear":
            problem, fix = "the state is read from linear", "bench.koopman.observables=[linear,...]"
            raise ConfigError("observables", self.observables, problem, fix)


@dataclass
class RecallConfig:
    """A fact told once, asked for in sequences longer than those of training; small own models."""

    train_seq: int = spec(64, "tokens of a sequence in training", low=4)
    factors: list[int] = count([1, 2, 4, 16], "lengths that are asked at, in train_seq")
    tasks: list[str] = spec(
        list(RECALL_TASKS),
        "needle: one fact; many: `pairs` keys and values, recorded only",
        choices=RECALL_TASKS,
    )
    values: int = spec(16, "possible values of a fact", low=2)
    pairs: int = count(8, "facts of the task many")
    arms: list[str] = spec(
        list(RECALL_ARMS),
        "what mixes tokens: attention with rotary phases, a control; attention without positions; "
        "the same with memory; MERA with memory",
        choices=RECALL_ARMS,
    )
    steps: int = count(4000, "optimizer steps of a training")
    batch: int = count(32, "sequences a step")
    lr: float = positive(4e-3, "peak learning rate")
    questions: int = count(256, "sequences asked at each length")
    seeds: list[int] = spec([0, 1, 2], "random seeds of the trainings", low=0, high=2**63 - 1)
    target: float = spec(0.95, "gate: recall with memory, and of MERA, at least", low=0.0, high=1.0)
    control_target: float = spec(
        0.9, "gate: recall of the control at 4 times train_seq below", low=0.0, high=1.0
    )
    cost_lengths: list[int] | None = count(
        None, "tokens at which one mixer of the run's dim is timed; null: not timed"
    )
    cost_target: float = positive(1.2, "gate: exponent of MERA's time in the tokens at most")

    def __post_init__(self) -> None:
        distinct(self.seeds)
        if self.cost_lengths and len(set(self.cost_lengths)) < 2:
            problem, fix = "an exponent needs two lengths", "bench.recall.cost_lengths=[2048,8192]"
            raise ConfigError("cost_lengths", self.cost_lengths, problem, fix)
