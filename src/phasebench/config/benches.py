"""The benchmarks: what each measures, on which sizes, and the targets of its gates."""

from __future__ import annotations

from dataclasses import dataclass

from phasebench.config.fields import ConfigError, count, limit, positive, random_seeds, spec
from phasebench.config.model import (
    CONTRAST,
    GRADIENTS,
    INTEGRATORS,
    PRECISIONS,
    RECOMPUTE,
    ModelConfig,
)
from phasebench.config.scoring import ScoringConfig, distinct
from phasebench.config.stage3_benches import KoopmanBenchConfig, PartsConfig, RecallConfig
from phasebench.config.training import SPLITS

GPUS = ("h100", "a100", "rtx4090", "rtx3090", "rtx3070")  # for which memory can be predicted
FINDABLE = ("seq", "batch", "steps")
# of bench.vram by default: full backprops, checkpoints, adjoints
ARMS = ("autograd", "backprop", "checkpoint", "checkpoint_sqrt", "adjoint", "adjoint_exact")


@dataclass
class PplConfig(ScoringConfig):
    """Perplexity of the model and of its baseline on one split."""

    max_batches: int | None = count(None, "batches to score; null: every token of the split")
    upper_target: float | None = limit("gate: upper end of that ratio's 95 % interval, at most")
    reference_target: float = positive(1.0, "gate: model / reference at most")
    max_ppl: float | None = spec(None, "gate: the model's perplexity at most", above=1.0)
    leak_test: bool = spec(
        False, "gate: changing a token leaves all logits before it, on the trained models"
    )


@dataclass
class BudgetConfig(ScoringConfig):
    """Perplexity over the budget of training, for the model, its baseline and a reference."""

    budgets: list[float] = positive([5.0, 10.0], "epochs of each training, increasing")
    improvement: float = spec(
        0.01,
        "convergence: the last budget lowers validation perplexity by less than this fraction",
        above=0.0,
        high=1.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = zip(self.budgets, self.budgets[1:], strict=False)
        if len(self.budgets) < 2 or any(long <= short for short, long in steps):
            raise ConfigError(
                "budgets",
                self.budgets,
                "a curve needs at least two budgets, in increasing order",
                "bench.budget.budgets=[5,10,20,40]",
            )


@dataclass
class EnergyConfig:
    """Energy along the flow of every layer, from hidden states of real text."""

    batch: int = count(4, "sequences of text whose states start the flow")
    seq: int = spec(512, "tokens a sequence", low=2)
    steps: int = spec(100, "integrator steps; the monotone test needs a series", low=8)
    dt: float = positive(0.1, "step size, in the units of H's time")
    integrator: str | None = spec(
        None,
        "integrator; null: the model's own; euler and rk4 are not symplectic",
        choices=(*INTEGRATORS, *CONTRAST),
    )
    precision: str = spec(
        "fp32",
        "precision of states and forces; fp64 shows the integrator's error without rounding",
        choices=("fp32", "fp64"),
    )
    compensated: bool = spec(
        False, "whether states carry what rounding takes from their sums, which long runs need"
    )
    split: str = spec("test", "split of the text", choices=SPLITS)
    target: float = positive(5e-5, "gate: max drift below")
    secular_target: float | None = limit(
        "gate: fitted change over the run, with its error, in E_ref, below"
    )
    force_share_target: float | None = positive(
        0.3, "gate: change of the motion by the force, of free motion, at least; null: none"
    )
    exchange_target: float | None = positive(
        0.1, "gate: energy that V exchanges with the motion, in E_ref, at least; null: none"
    )
    nonlinearity_target: float | None = positive(
        0.1, "gate: what first-order perturbation theory misses of the force, at least; null: none"
    )
    beyond_linear_target: float | None = positive(
        0.1, "gate: what the best affine map misses of the force, at least; null: none"
    )
    discretisation_target: float | None = positive(
        0.2, "gate: change of perplexity, in %, by running the flow in steps of dt; null: none"
    )
    seeds: list[int] | None = random_seeds(
        "random seeds whose weights are measured; null: seed alone"
    )
    integrators: list[str] | None = spec(
        None,
        "integrators to compare over the same time; null: with dts, the model's own",
        choices=(*INTEGRATORS, *CONTRAST),
    )
    dts: list[float] | None = positive(
        None, "step sizes to compare, of which the first is timed; null: dt alone"
    )
    precisions: list[str] = spec(
        ["fp32", "fp64"], "precisions to compare", choices=("fp32", "fp64")
    )

    def __post_init__(self) -> None:
        distinct(self.seeds)


@dataclass
class VramConfig:
    """Peak memory of forward + backward, per gradient method; and what fits into a given memory."""

    batch: int = count(2, "sequences of the pass")
    seq: int = spec(2048, "tokens a sequence", low=2)
    vocab: int = spec(50257, "tokens that the head chooses from", low=2)
    precision: str = spec("fp16", "precision of the matrix products", choices=PRECISIONS)
    arms: list[str] = spec(list(ARMS), "gradient methods to measure", choices=GRADIENTS)
    heads: list[str] = spec(
        ["chunked"],
        "heads that every arm is measured with (a chunk of logits at a time, or all); the first is "
        "judged",
        choices=("chunked", "plain"),
    )
    loss_chunk: int = count(1024, "tokens whose logits exist at one time, of a chunked head")
    recompute: list[str] = spec(
        list(RECOMPUTE),
        "model.recompute of every arm (docs/memory.md)",
        choices=RECOMPUTE,
        empty=True,
    )
    optimizer: str = spec(
        "none", "optimizer whose state and step are measured too", choices=("none", "adamw")
    )
    repeats: int = count(3, "measured forward + backward passes an arm")
    timeout_s: float = positive(300.0, "seconds that an arm may take")
    predict_for: str = spec(
        "auto",
        "GPU to predict for; auto: the one that is there, else h100",
        choices=("auto", *GPUS),
    )
    curve_steps: list[int] = spec(
        [1, 5],
        "integrator steps to predict for the plot, beside the own; []: none",
        low=1,
        empty=True,
    )
    curve_seq: list[int] = spec(
        [512, 4096],
        "sequence lengths to predict for the plot, beside the own; []: none",
        low=2,
        empty=True,
    )
    reference: ModelConfig | None = spec(
        None, "a model whose pass is measured beside the arms, with the keys of model; null: none"
    )
    limit_gb: float | None = positive(None, "memory that find fills, in GB (1e9 bytes)")
    find: str | None = spec(
        None, "key whose largest value that fits limit_gb is found, per arm", choices=FINDABLE
    )
    max_gb: float = positive(7.5, "gate: peak of adjoint_exact below, in GB (1e9 bytes)")
    min_reduction_pct: float = spec(
        70.0,
        "gate: reduction of the peak against the best full backprop at least, in %",
        low=0.0,
        high=100.0,
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

    tokens: int = count(64, "random states")
    methods: list[str] = spec(
        [name for name in GRADIENTS if name != "adjoint_exact_eager"],
        "gradient methods to judge",
        choices=GRADIENTS,
    )
    integrators: list[str] = spec(
        ["leapfrog", "blanes_moan4"], "integrators to judge the methods with", choices=INTEGRATORS
    )
    precisions: list[str] = spec(["fp32", "bf16"], "precisions of the forces", choices=PRECISIONS)
    steps: list[int] = count(
        [1, 10, 100, 1000], "integrator steps, from the smallest to the largest"
    )
    stiffness: list[float] = positive([1.0, 4.0], "factors on W, the weights of the potential")
    max_error: float = positive(
        1e-6, "gate: relative error of the gradients of adjoint_exact with float32 forces, below"
    )


@dataclass
class SpeedConfig:
    """Time of the ODE stack's forward + backward and of a training step, per gradient method."""

    batch: int = count(2, "sequences of the pass")
    seq: int = spec(2048, "tokens a sequence", low=2)
    vocab: int = spec(50257, "tokens that the head chooses from", low=2)
    precisions: list[str] = spec(
        ["bf16"], "precisions of the ODE stack; the first one also of training", choices=PRECISIONS
    )
    loss_chunk: int = count(4096, "tokens whose logits exist at one time")
    methods: list[str] = spec(
        ["adjoint_exact", "adjoint", "backprop", "autograd", "checkpoint"],
        "gradient methods to time",
        choices=GRADIENTS,
    )
    reference: ModelConfig | None = spec(
        None, "a model whose training step is timed too, with the keys of model; null: none"
    )
    peers: bool = spec(True, "time torchdiffeq too, if it is installed")
    repeats: int = count(5, "rounds, each with every arm in a new order")
    warmup: int = spec(2, "calls of each arm before the measured ones", low=0)
    max_ms: float | None = limit(
        "gate: median time of the ODE stack with adjoint_exact at most, in ms"
    )
    min_ceiling_fraction: float | None = limit(
        "gate: that stack's fraction of the GEMM ceiling at least"
    )
    min_over_autograd: float | None = limit(
        "gate: time of backprop through autograd's forces / that of adjoint_exact at least"
    )
    min_over_torchdiffeq: float | None = limit(
        "gate: time of torchdiffeq's odeint_adjoint / that of adjoint_exact at least"
    )
    min_stage1_rate: float | None = limit("gate: training steps per second / Stage 1's at least")
    max_stage1_peak: float | None = limit(
        "gate: peak memory of a training step / Stage 1's at most"
    )


BENCH_SCHEMAS: dict[str, type] = {
    "ppl": PplConfig,
    "budget": BudgetConfig,
    "parts": PartsConfig,
    "energy": EnergyConfig,
    "koopman": KoopmanBenchConfig,
    "recall": RecallConfig,
    "vram": VramConfig,
    "grad": GradConfig,
    "speed": SpeedConfig,
}
BENCHES = tuple(BENCH_SCHEMAS)
TRAINING = ("ppl", "budget", "parts", "energy", "koopman")  # which read text and train models on it
