"""The five benchmarks: what each measures, on which sizes, and the targets of its gates."""

from __future__ import annotations

from dataclasses import dataclass

from phasebench.config.fields import ConfigError, spec
from phasebench.config.model import (
    CONTRAST,
    GRADIENTS,
    INTEGRATORS,
    PRECISIONS,
    RECOMPUTE,
    ModelConfig,
)
from phasebench.config.training import SPLITS

HEADS = ("chunked", "plain")  # a chunk of logits at a time, or all of them
OPTIMIZERS = ("none", "adamw")
GPUS = ("h100", "a100", "rtx4090", "rtx3090", "rtx3070")  # for which memory can be predicted
FINDABLE = ("seq", "batch", "steps")
# of bench.vram by default: full backprops, checkpoints, adjoints
ARMS = ("autograd", "backprop", "checkpoint", "checkpoint_sqrt", "adjoint", "adjoint_exact")


def _distinct(seeds: list[int] | None) -> None:
    if seeds and len(set(seeds)) < len(seeds):
        raise ConfigError("seeds", seeds, "names a seed twice", "name each once")


@dataclass
class PplConfig:
    """Perplexity of the model and of its baseline on one split."""

    batch: int = spec(4, "windows scored at one time", low=1)
    seq: int = spec(1024, "tokens of context at most", low=2)
    stride: int | None = spec(
        None, "tokens scored a window; null: seq, so contexts do not overlap", low=1
    )
    split: str = spec("test", "of the text", choices=SPLITS)
    precision: str = spec("fp16", "of the matrix products", choices=PRECISIONS)
    max_batches: int | None = spec(None, "null: every token of the split", low=1)
    target: float = spec(1.02, "gate: model / baseline at most", above=0.0)
    upper_target: float | None = spec(
        None, "gate: upper end of that ratio's 95 % interval, at most", above=0.0
    )
    reference_target: float = spec(1.0, "gate: model / reference at most", above=0.0)
    max_ppl: float | None = spec(None, "gate: the model's perplexity at most", above=1.0)
    seeds: list[int] | None = spec(
        None, "every model is trained from each; null: seed alone", low=0, high=2**63 - 1
    )
    leak_test: bool = spec(
        False, "gate: changing a token leaves all logits before it, on the trained models"
    )
    baseline: ModelConfig | None = spec(None, "null: the model alone, no ratio")
    reference: ModelConfig | None = spec(None, "a further model beside the baseline; null: none")

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride > self.seq:
            problem = f"is above seq={self.seq}; tokens between two windows would not be scored"
            raise ConfigError("stride", self.stride, problem, "choose a stride of at most seq")
        _distinct(self.seeds)


@dataclass
class EnergyConfig:
    """Energy along the flow of every layer, from hidden states of real text."""

    batch: int = spec(4, "sequences of text whose states start the flow", low=1)
    seq: int = spec(512, "tokens each", low=2)
    steps: int = spec(100, "integrator steps; the monotone test needs a series", low=8)
    dt: float = spec(0.1, "step size, in the units of H's time", above=0.0)
    integrator: str | None = spec(None, "null: the model's own", choices=(*INTEGRATORS, *CONTRAST))
    precision: str = spec(
        "fp32", "of states and forces; fp64 shows the integrator alone", choices=("fp32", "fp64")
    )
    split: str = spec("test", "of the text", choices=SPLITS)
    target: float = spec(5e-5, "gate: max drift below", above=0.0)
    secular_target: float | None = spec(
        None, "gate: fitted change over the run, with its error, below", above=0.0
    )
    seeds: list[int] | None = spec(
        None, "the weights of each; null: seed alone", low=0, high=2**63 - 1
    )
    integrators: list[str] | None = spec(
        None, "compared at equal duration", choices=(*INTEGRATORS, *CONTRAST)
    )
    dts: list[float] | None = spec(None, "of the comparison; null: dt alone", above=0.0)
    precisions: list[str] = spec(
        ["fp32", "fp64"], "of the comparison's states and forces", choices=("fp32", "fp64")
    )

    def __post_init__(self) -> None:
        _distinct(self.seeds)


@dataclass
class VramConfig:
    """Peak memory of forward + backward, per gradient method; and what fits into a given memory."""

    batch: int = spec(2, "sequences of the pass", low=1)
    seq: int = spec(2048, "tokens each", low=2)
    vocab: int = spec(50257, "tokens that the head chooses from", low=2)
    precision: str = spec("fp16", "of the matrix products", choices=PRECISIONS)
    arms: list[str] = spec(list(ARMS), "gradient methods to measure", choices=GRADIENTS)
    heads: list[str] = spec(["chunked"], "every arm with each; the first is judged", choices=HEADS)
    loss_chunk: int = spec(1024, "tokens whose logits exist at one time, of a chunked head", low=1)
    recompute: list[str] = spec(
        list(RECOMPUTE), "every arm's, for model.recompute", choices=RECOMPUTE, empty=True
    )
    optimizer: str = spec("none", "with its state and its step, or without", choices=OPTIMIZERS)
    repeats: int = spec(3, "measured forward + backward passes an arm", low=1)
    timeout_s: float = spec(300.0, "seconds an arm", above=0.0)
    predict_for: str = spec(
        "auto", "auto: the GPU that is there, else h100", choices=("auto", *GPUS)
    )
    curve_steps: list[int] = spec(
        [1, 5], "integrator steps at which the plot has predictions", low=1, empty=True
    )
    curve_seq: list[int] = spec(
        [512, 4096], "sequence lengths at which it has some", low=2, empty=True
    )
    limit_gb: float | None = spec(None, "memory that `find` fills, in GB (1e9 bytes)", above=0.0)
    find: str | None = spec(None, "the largest value of it that fits, per arm", choices=FINDABLE)
    max_gb: float = spec(7.5, "gate: exact adjoint below, in GB", above=0.0)
    min_reduction_pct: float = spec(
        70.0, "gate: against the best full backprop", low=0.0, high=100.0
    )

    def __post_init__(self) -> None:
        if self.find is not None and self.limit_gb is None:
            raise ConfigError(
                "find", self.find, "needs the memory to fill", "bench.vram.limit_gb=8"
            )
        if self.limit_gb is not None and self.find is None:
            raise ConfigError(
                "limit_gb",
                self.limit_gb,
                f"needs what to find; choices: {', '.join(FINDABLE)}",
                "bench.vram.find=seq",
            )


@dataclass
class GradConfig:
    """Gradients of the flow against float64 backprop, per method.

    Each axis is swept from the model's own setting.
    """

    tokens: int = spec(64, "random states", low=1)
    methods: list[str] = spec(list(GRADIENTS), "gradient methods to judge", choices=GRADIENTS)
    integrators: list[str] = spec(
        ["leapfrog", "blanes_moan4"], "to judge the methods with", choices=INTEGRATORS
    )
    precisions: list[str] = spec(["fp32", "bf16"], "of the forces", choices=PRECISIONS)
    steps: list[int] = spec(
        [1, 10, 100, 1000], "integrator steps, from the smallest to the largest", low=1
    )
    stiffness: list[float] = spec([1.0, 4.0], "factors on W", above=0.0)
    max_error: float = spec(
        1e-6, "gate: relative error of every group's gradient, float32 forces", above=0.0
    )


@dataclass
class SpeedConfig:
    """Time of the ODE stack's forward + backward and of a training step, per gradient method."""

    batch: int = spec(2, "sequences of the pass", low=1)
    seq: int = spec(2048, "tokens each", low=2)
    vocab: int = spec(50257, "tokens that the head chooses from", low=2)
    precisions: list[str] = spec(
        ["bf16"], "of the ODE stack; the first one also of training", choices=PRECISIONS
    )
    loss_chunk: int = spec(4096, "tokens whose logits exist at one time", low=1)
    methods: list[str] = spec(
        ["adjoint_exact", "adjoint", "backprop", "autograd", "checkpoint"],
        "gradient methods to time",
        choices=GRADIENTS,
    )
    peers: bool = spec(True, "torchdiffeq, if it is installed")
    repeats: int = spec(5, "rounds, each with every arm in a new order", low=1)
    warmup: int = spec(2, "calls of each arm before", low=0)
    max_ms: float | None = spec(None, "gate: the ODE stack with adjoint_exact, at most", above=0.0)
    min_ceiling_fraction: float | None = spec(
        None, "gate: its fraction of the GEMM ceiling, at least", above=0.0
    )
    min_over_autograd: float | None = spec(
        None, "gate: time of backprop through autograd forces / its time", above=0.0
    )
    min_over_torchdiffeq: float | None = spec(
        None, "gate: time of torchdiffeq's odeint_adjoint / its time", above=0.0
    )
    min_stage1_rate: float | None = spec(
        None, "gate: training steps per second / Stage 1's", above=0.0
    )
    max_stage1_peak: float | None = spec(
        None, "gate: peak memory of a training step / Stage 1's", above=0.0
    )


BENCH_SCHEMAS: dict[str, type] = {
    "ppl": PplConfig,
    "energy": EnergyConfig,
    "vram": VramConfig,
    "grad": GradConfig,
    "speed": SpeedConfig,
}
BENCHES = tuple(BENCH_SCHEMAS)
