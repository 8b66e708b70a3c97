"""The configuration, as typed dataclasses whose fields carry their checks.

Hydra composes the YAML files of ``conf/`` onto these classes; `phasebench.config.validation.to_config` turns the composed tree
into them.  Imports neither torch nor hydra, so that ``--help`` and ``--cfg job`` answer at once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from phasebench.config.fields import ConfigError, spec
from phasebench.config.handling import Handling

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MODELS = ("stage1", "stage2", "gpt")
INTEGRATORS = (
    "leapfrog",
    "leapfrog_dkd",
    "mclachlan2",
    "yoshida4",
    "yoshida6",
    "suzuki4",
    "blanes_moan4",
    "blanes_moan6",
)
CONTRAST = ("euler", "rk4")  # not symplectic: for the energy benchmark only
GRADIENTS = (
    "adjoint_exact",
    "adjoint",
    "adjoint_exact_eager",
    "backprop",
    "autograd",
    "checkpoint",
    "checkpoint_sqrt",
)
COORDINATES = ("state", "learned")
POTENTIALS = ("logcosh", "gelu", "softplus", "gelu_integral")
DATASETS = ("auto", "wikitext2", "wikitext103", "text", "synthetic")
TOKENIZERS = ("auto", "bpe", "wordlevel", "gpt2")
SPLITS = ("train", "validation", "test")
AVERAGES = ("off", "ema", "tail")
HEADS = ("chunked", "plain")  # a chunk of logits at a time, or all of them
OPTIMIZERS = ("none", "adamw")
GPUS = ("h100", "a100", "rtx4090", "rtx3090", "rtx3070")  # for which memory can be predicted
FINDABLE = ("seq", "batch", "steps")
# of bench.vram by default: full backprops, checkpoints, adjoints
ARMS = ("autograd", "backprop", "checkpoint", "checkpoint_sqrt", "adjoint", "adjoint_exact")
RECOMPUTE = ("tail", "attention", "head")  # the cheapest first
BENCHES = ("ppl", "energy", "vram", "grad", "speed")
Decay = Literal[
    "weight_decay", "embedding_decay"
]  # keys of TrainConfig, one of which applies to a parameter, or none


@dataclass
class OdeConfig:
    """The Hamiltonian flow of a Stage 2 block: H(q, p) = |p|^2 / 2 + V(q)."""

    steps: int = spec(10, low=1)  # integrator steps a layer
    dt: float = spec(0.1, above=0.0)  # step size, in the units of H's time
    integrator: str = spec("leapfrog", choices=INTEGRATORS)  # kicks and drifts of a step
    gradient: str = spec(
        "adjoint_exact", choices=GRADIENTS
    )  # how the backward pass gets the states of the trajectory
    on_overflow: str = spec(
        "error", choices=("error", "checkpoint")
    )  # of adjoint_exact, where a state leaves its lattice
    potential: str = spec("logcosh", choices=POTENTIALS)  # sigma in V(q) = a . sigma(W q + b)
    coupling: float = spec(0.002, low=1e-5)  # strength of V; the mixer divides its effect by it
    omega: float = spec(0.0, low=0.0)  # confinement: adds omega^2 |q|^2 / 2 to V


@dataclass
class TrainedOdeConfig:
    """How the flow was integrated in training, where the trained weights are to be run otherwise."""

    steps: int | None = spec(None, low=1)  # integrator steps a layer; null: of ode
    dt: float | None = spec(None, above=0.0)  # step size, in H's time; null: of ode
    integrator: str | None = spec(None, choices=INTEGRATORS)  # kicks and drifts; null: of ode


@dataclass
class DropoutConfig:
    """Probabilities with which a complex channel (both of its parts) is set to zero in training."""

    embedding: float = spec(
        0.0, low=0.0, high=0.95
    )  # whole rows of the embedding table (word types)
    input: float = spec(0.0, low=0.0, high=0.95)  # after the embedding
    block: float = spec(0.0, low=0.0, high=0.95)  # after each mixer
    output: float = spec(0.0, low=0.0, high=0.95)  # before the head
    attention: float = spec(0.0, low=0.0, high=0.95)  # of the attention's weights (real numbers)
    locked: bool = spec(
        False
    )  # input, block and output: the same channels at all positions of a sequence


@dataclass
class ModelConfig:
    """A language model on complex states of shape (batch, time, dim)."""

    name: str = spec("stage2", choices=MODELS)  # the channel mixer; gpt: GPT-2's block
    dim: int = spec(512, low=2)  # complex channels
    blocks: int = spec(6, low=1)  # layers: a token mixer and a channel mixer each
    heads: int = spec(8, low=1)  # of the attention; divides dim
    hidden: int = spec(
        2048, low=1
    )  # complex units of the Stage 1 mixer; terms of V in Stage 2; units of GPT-2's
    rope_base: float = spec(10000.0, above=1.0)  # base of the rotary frequencies; not of gpt
    embedding_scale: float = spec(
        1.0, above=0.0
    )  # of embedded tokens; the head reads the table as it is; not of gpt
    coordinates: str = spec(
        "state", choices=COORDINATES
    )  # of Stage 2's flow: Re and Im of a state, or learned ones
    free_motion: float = spec(
        1.0, low=0.0
    )  # of Stage 2's flow: what a block adds of it before training
    shear: float = spec(
        0.0, low=0.0
    )  # of Stage 1, an ablation: how much of Im a block adds to Re before training
    positions: int = spec(
        1024, low=2
    )  # of gpt only: learned positions, so tokens a sequence at most
    lr: float | None = spec(None, above=0.0)  # peak learning rate; null: train.lr
    weight_decay: float | None = spec(
        None, low=0.0
    )  # AdamW's, of matrices; null: train.weight_decay
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    ode: OdeConfig = field(default_factory=OdeConfig)  # used by Stage 2 only
    # the weights are trained with these, and their flow is then run by `ode`
    trained_ode: TrainedOdeConfig = field(default_factory=TrainedOdeConfig)
    # what the backward pass computes again instead of keeping it; gradients are the same (docs/memory.md)
    recompute: list[str] = spec([], choices=RECOMPUTE, empty=True)
    checkpoint: str | None = spec(
        None
    )  # trained weights (safetensors); null: train, or take them from the cache

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(
                "heads",
                self.heads,
                f"does not divide dim={self.dim}",
                f"choose a divisor of {self.dim}",
            )

    def with_ode(self, **changes: Any) -> ModelConfig:
        """A copy whose flow has other settings."""
        return dataclasses.replace(self, ode=dataclasses.replace(self.ode, **changes))

    def as_trained(self) -> ModelConfig:
        """The model whose weights these are: with the steps, dt and integrator that it is trained with."""
        given = {
            key: value
            for key, value in dataclasses.asdict(self.trained_ode).items()
            if value is not None
        }
        return dataclasses.replace(self.with_ode(**given), trained_ode=TrainedOdeConfig())


@dataclass
class SyntheticConfig:
    """The seeded source of text whose entropy rate is known (see phasebench.data.synthetic)."""

    rows: int = spec(6000, low=20)  # rows (documents) over all splits
    seed: int = spec(0, low=0, high=2**32 - 1)  # of the source's tables and of its text


@dataclass
class DataConfig:
    """The text, its splits and its tokenizer."""

    name: str = spec(
        "auto", choices=DATASETS
    )  # auto: WikiText-2 where it can be had, else synthetic
    path: str | None = spec(
        None
    )  # wikitext: a folder laid out like the hub's repository; text: a file
    hub: str = spec("Salesforce/wikitext")  # repository on the hub
    revision: str = spec("b08601e04326c79dfdd32d625aee71d232d685c3")  # of that repository
    timeout_s: float = spec(10.0, above=0.0)  # seconds after which a missing network is given up on
    tokenizer: str = spec(
        "auto", choices=TOKENIZERS
    )  # auto: wordlevel for synthetic, bpe otherwise
    vocab_size: int = spec(50257, low=260)  # of the bpe tokenizer
    held_out: float = spec(
        0.1, above=0.0, high=0.4
    )  # fraction of a text file in each of validation and test
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class TrainConfig:
    """The recipe and the budget with which a benchmark that has no checkpoint trains one."""

    steps: int = spec(2000, low=1)  # optimizer steps
    epochs: float | None = spec(
        None, above=0.0
    )  # passes over the training split; if given, steps follows from it
    batch: int = spec(16, low=1)  # sequences a step (over all accumulated parts)
    seq: int = spec(512, low=2)  # tokens a sequence
    accumulate: int = spec(1, low=1)  # parts into which a batch is split
    lr: float = spec(1e-3, above=0.0)  # peak learning rate of AdamW
    final_lr: float = spec(0.1, low=0.0, high=1.0)  # at the end of the cosine, as a fraction of lr
    warmup: int = spec(100, low=0)  # steps of linear warm-up
    weight_decay: float = spec(
        0.1, low=0.0
    )  # on matrices; never on biases, gains, embeddings and potentials
    embedding_decay: float = spec(0.0, low=0.0)  # on the embedding's table and on learned positions
    beta1: float = spec(0.9, low=0.0, high=0.9999)  # of AdamW: decay of the mean gradient
    beta2: float = spec(0.95, low=0.0, high=0.9999)  # of AdamW: decay of the mean square
    clip: float = spec(1.0, above=0.0)  # global gradient norm
    precision: str = spec(
        "bf16", choices=PRECISIONS
    )  # of the matrix products; weights stay in float32
    loss_chunk: int = spec(4096, low=1)  # tokens whose logits exist at one time
    validate_every: int = spec(250, low=1)  # steps
    validate_tokens: int = spec(
        65536, low=1
    )  # tokens of the validation split that are scored each time
    average: str = spec(
        "off", choices=AVERAGES
    )  # of the weights; what is validated, stored and measured
    average_decay: float = spec(
        0.999, low=0.0, high=0.999999
    )  # of ema, a step; tail: the mean of all
    average_start: float = spec(
        0.0, low=0.0, high=1.0
    )  # fraction of the steps that are left out of it
    track_energy: bool = spec(
        False
    )  # drift of every layer at each validation, into the history (Stage 2)
    patience: int | None = spec(
        None, low=1
    )  # validations without improvement before an early stop; null: never
    checkpoint_every: int = spec(250, low=1)  # steps
    compile: bool = spec(
        False
    )  # on a GPU: torch.compile of both stages' blocks, in training only; small steps gain
    graph: bool = spec(
        False
    )  # on a GPU: record an optimizer step as a CUDA graph and replay it; small steps gain
    tensorboard: bool = spec(False)  # write scalars beside the results

    def __post_init__(self) -> None:
        if self.batch % self.accumulate:
            raise ConfigError(
                "accumulate",
                self.accumulate,
                f"does not divide batch={self.batch}",
                f"choose a divisor of {self.batch}",
            )
        if self.graph and self.precision == "fp16":
            raise ConfigError(
                "graph",
                True,
                "the loss scaler of precision=fp16 asks the host in each step",
                "train.precision=bf16, or train.graph=false",
            )


def _distinct(seeds: list[int] | None) -> None:
    if seeds and len(set(seeds)) < len(seeds):
        raise ConfigError("seeds", seeds, "names a seed twice", "name each once")


@dataclass
class PplConfig:
    """Perplexity of the model and of its baseline on one split."""

    batch: int = spec(4, low=1)  # windows scored at one time
    seq: int = spec(1024, low=2)  # tokens of context at most
    stride: int | None = spec(
        None, low=1
    )  # tokens scored a window; null: seq, so contexts do not overlap
    split: str = spec("test", choices=SPLITS)  # of the text
    precision: str = spec("fp16", choices=PRECISIONS)  # of the matrix products
    max_batches: int | None = spec(None, low=1)  # null: every token of the split
    target: float = spec(1.02, above=0.0)  # gate: model / baseline at most
    upper_target: float | None = spec(
        None, above=0.0
    )  # gate: upper end of that ratio's 95 % interval, at most
    reference_target: float = spec(1.0, above=0.0)  # gate: model / reference at most
    max_ppl: float | None = spec(None, above=1.0)  # gate: the model's perplexity at most
    seeds: list[int] | None = spec(
        None, low=0, high=2**63 - 1
    )  # every model is trained from each; null: seed alone
    leak_test: bool = spec(
        False
    )  # gate: changing a token leaves all logits before it, on the trained models
    baseline: ModelConfig | None = None  # null: the model alone, no ratio
    reference: ModelConfig | None = None  # a further model beside the baseline; null: none

    def __post_init__(self) -> None:
        if self.stride is not None and self.stride > self.seq:
            problem = f"is above seq={self.seq}; tokens between two windows would not be scored"
            raise ConfigError("stride", self.stride, problem, "choose a stride of at most seq")
        _distinct(self.seeds)


@dataclass
class EnergyConfig:
    """Energy along the flow of every layer, from hidden states of real text."""

    batch: int = spec(4, low=1)  # sequences of text whose states start the flow
    seq: int = spec(512, low=2)  # tokens each
    steps: int = spec(100, low=8)  # integrator steps; the monotone test needs a series
    dt: float = spec(0.1, above=0.0)  # step size, in the units of H's time
    integrator: str | None = spec(None, choices=(*INTEGRATORS, *CONTRAST))  # null: the model's own
    precision: str = spec(
        "fp32", choices=("fp32", "fp64")
    )  # of states and forces; fp64 shows the integrator alone
    split: str = spec("test", choices=SPLITS)  # of the text
    target: float = spec(5e-5, above=0.0)  # gate: max drift below
    secular_target: float | None = spec(
        None, above=0.0
    )  # gate: fitted change over the run, with its error, below
    seeds: list[int] | None = spec(
        None, low=0, high=2**63 - 1
    )  # the weights of each; null: seed alone
    integrators: list[str] | None = spec(
        None, choices=(*INTEGRATORS, *CONTRAST)
    )  # compared at equal duration
    dts: list[float] | None = spec(None, above=0.0)  # of the comparison; null: dt alone
    precisions: list[str] = spec(
        ["fp32", "fp64"], choices=("fp32", "fp64")
    )  # of the comparison's states and forces

    def __post_init__(self) -> None:
        _distinct(self.seeds)


@dataclass
class VramConfig:
    """Peak memory of forward + backward, per gradient method; and what fits into a given memory."""

    batch: int = spec(2, low=1)  # sequences of the pass
    seq: int = spec(2048, low=2)  # tokens each
    vocab: int = spec(50257, low=2)  # tokens that the head chooses from
    precision: str = spec("fp16", choices=PRECISIONS)  # of the matrix products
    arms: list[str] = spec(list(ARMS), choices=GRADIENTS)  # gradient methods to measure
    heads: list[str] = spec(["chunked"], choices=HEADS)  # every arm with each; the first is judged
    loss_chunk: int = spec(1024, low=1)  # tokens whose logits exist at one time, of a chunked head
    recompute: list[str] = spec(
        list(RECOMPUTE), choices=RECOMPUTE, empty=True
    )  # every arm's, for model.recompute
    optimizer: str = spec("none", choices=OPTIMIZERS)  # with its state and its step, or without
    repeats: int = spec(3, low=1)  # measured forward + backward passes an arm
    timeout_s: float = spec(300.0, above=0.0)  # seconds an arm
    predict_for: str = spec(
        "auto", choices=("auto", *GPUS)
    )  # auto: the GPU that is there, else h100
    curve_steps: list[int] = spec(
        [1, 5], low=1, empty=True
    )  # integrator steps at which the plot has predictions
    curve_seq: list[int] = spec(
        [512, 4096], low=2, empty=True
    )  # sequence lengths at which it has some
    limit_gb: float | None = spec(None, above=0.0)  # memory that `find` fills, in GB (1e9 bytes)
    find: str | None = spec(None, choices=FINDABLE)  # the largest value of it that fits, per arm
    max_gb: float = spec(7.5, above=0.0)  # gate: exact adjoint below, in GB
    min_reduction_pct: float = spec(
        70.0, low=0.0, high=100.0
    )  # gate: against the best full backprop

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
    """Gradients of the flow against float64 backprop, per method; each axis is swept from the model's own setting."""

    tokens: int = spec(64, low=1)  # random states
    # gradient methods to judge
    methods: list[str] = spec(list(GRADIENTS), choices=GRADIENTS)
    integrators: list[str] = spec(
        ["leapfrog", "blanes_moan4"], choices=INTEGRATORS
    )  # to judge the methods with
    precisions: list[str] = spec(["fp32", "bf16"], choices=PRECISIONS)  # of the forces
    # integrator steps, from the smallest to the largest
    steps: list[int] = spec([1, 10, 100, 1000], low=1)
    stiffness: list[float] = spec([1.0, 4.0], above=0.0)  # factors on W
    max_error: float = spec(
        1e-6, above=0.0
    )  # gate: relative error of every group's gradient, float32 forces


@dataclass
class SpeedConfig:
    """Time of the ODE stack's forward + backward and of the model's training step, per gradient method."""

    batch: int = spec(2, low=1)  # sequences of the pass
    seq: int = spec(2048, low=2)  # tokens each
    vocab: int = spec(50257, low=2)  # tokens that the head chooses from
    precisions: list[str] = spec(
        ["bf16"], choices=PRECISIONS
    )  # of the ODE stack; the first one also of training
    loss_chunk: int = spec(4096, low=1)  # tokens whose logits exist at one time
    # gradient methods to time
    methods: list[str] = spec(
        ["adjoint_exact", "adjoint", "backprop", "autograd", "checkpoint"], choices=GRADIENTS
    )
    peers: bool = spec(True)  # torchdiffeq, if it is installed
    repeats: int = spec(5, low=1)  # rounds, each with every arm in a new order
    warmup: int = spec(2, low=0)  # calls of each arm before
    max_ms: float | None = spec(None, above=0.0)  # gate: the ODE stack with adjoint_exact, at most
    min_ceiling_fraction: float | None = spec(
        None, above=0.0
    )  # gate: its fraction of the GEMM ceiling, at least
    min_over_autograd: float | None = spec(
        None, above=0.0
    )  # gate: time of backprop through autograd forces / its time
    min_over_torchdiffeq: float | None = spec(
        None, above=0.0
    )  # gate: time of torchdiffeq's odeint_adjoint / its time
    min_stage1_rate: float | None = spec(
        None, above=0.0
    )  # gate: training steps per second / Stage 1's
    max_stage1_peak: float | None = spec(
        None, above=0.0
    )  # gate: peak memory of a training step / Stage 1's


@dataclass
class Config(Handling):
    """Everything that a run depends on, and how it is carried out."""

    benchmark_name: str = spec("phasebench")  # a label in the results
    device: str = spec("auto", choices=DEVICES, prefix="cuda:")  # auto: cuda where there is one
    seed: int = spec(0, low=0, high=2**63 - 1)  # of weights, batches and dropout
    output: str | None = spec(None)  # also copy results.json there
    cache_dir: str = spec("outputs/cache")  # trained weights and tokenizers
    scale: dict[str, Any] = spec(
        {}
    )  # sizes, from conf/scale; the other groups take theirs from here
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    bench: dict[str, Any] = spec(
        {}
    )  # one entry a benchmark to run: its PplConfig, EnergyConfig or VramConfig

    def recorded(self) -> dict[str, Any]:
        """What results record, and their hash covers: not how the run is carried out."""
        carried_out = {f.name for f in dataclasses.fields(Handling)}
        return {
            key: value for key, value in dataclasses.asdict(self).items() if key not in carried_out
        }


BENCH_SCHEMAS: dict[str, type] = {
    "ppl": PplConfig,
    "energy": EnergyConfig,
    "vram": VramConfig,
    "grad": GradConfig,
    "speed": SpeedConfig,
}
