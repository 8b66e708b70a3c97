"""The language model: its sizes, its flow and its dropout."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from phasebench.config.fields import ConfigError, count, positive, probability, spec

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MODELS = ("stage1", "stage2", "stage3", "gpt", "momentum", "hf")
INTEGRATORS = (
    "leapfrog",
    "leapfrog_dkd",
    "mclachlan2",
    "yoshida4",
    "yoshida6",
    "suzuki4",
    "omelyan4",
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
POTENTIALS = ("logcosh", "gelu", "softplus", "gelu_integral")
RECOMPUTE = ("tail", "attention", "head")  # the cheapest first


@dataclass
class OdeConfig:
    """The Hamiltonian flow of a Stage 2 block: H(q, p) = sum c p^2 / 2 + V(q)."""

    steps: int = count(2, "integrator steps a layer")
    dt: float = positive(1.0, "step size, in the units of H's time")
    integrator: str = spec(
        "blanes_moan4", "how kicks and drifts compose a step", choices=INTEGRATORS
    )
    gradient: str = spec(
        "adjoint_exact",
        "how the backward pass gets the states of the trajectory",
        choices=GRADIENTS,
    )
    on_overflow: str = spec(
        "error",
        "what adjoint_exact does where a state leaves its lattice",
        choices=("error", "checkpoint"),
    )
    potential: Any = spec(  # a name, or a group of keys: OmegaConf knows no union of the two
        "gelu_integral",
        "the sigma of V(q) = a . sigma(W n + b); or one's own V, as _target_=module.Class below it "
        "(docs/library.md)",
        choices=POTENTIALS,
    )
    coupling: float = positive(0.4, "about the rms force on a coordinate before training")
    normalize: bool = spec(
        True, "whether n is q / sqrt(mean q^2 + eps), so that V is bounded, or q itself"
    )
    eps: float = positive(0.25, "of that norm: softens the force where q is near 0")

    def __post_init__(self) -> None:
        if isinstance(self.potential, dict) and not isinstance(self.potential.get("_target_"), str):
            problem = "a potential of one's own names its class"
            fix = "model.ode.potential._target_=module.Class, beside the class's own keys"
            raise ConfigError("potential", self.potential, problem, fix)


@dataclass
class TrainedOdeConfig:
    """How the flow was integrated in training, where its weights are to be run otherwise."""

    steps: int | None = count(None, "integrator steps a layer; null: that of ode")
    dt: float | None = positive(None, "step size, in the units of H's time; null: that of ode")
    integrator: str | None = spec(None, "integrator; null: that of ode", choices=INTEGRATORS)


@dataclass
class DropoutConfig:
    """Probabilities with which a complex channel (both of its parts) is set to zero in training."""

    embedding: float = probability(
        "probability for a whole row of the embedding table (a word type)"
    )
    input: float = probability("probability for a channel after the embedding")
    block: float = probability("probability for a channel after each mixer")
    output: float = probability("probability for a channel before the head")
    attention: float = probability("probability for a weight of the attention (a real number)")
    locked: bool = spec(
        False, "of input, block and output: drop the same channels at all positions of a sequence"
    )


@dataclass
class KoopmanConfig:
    """Stage 3's memory: a diagonal linear operator over the tokens, before attention."""

    memory: str = spec(
        "off",
        "its spectrum: damped (inside the unit circle), or unitary (on it), an ablation",
        choices=("off", "damped", "unitary"),
    )
    span: int = count(256, "its longest time constant before training, in tokens")


@dataclass
class MeraConfig:
    """Stage 3's pyramid over the tokens: nodes of 1, 2, 4 ... tokens, which attention reads."""

    mode: str = spec(
        "off",
        "whether blocks have it, beside their attention or instead of it",
        choices=("off", "beside", "instead"),
    )
    blocks: list[int] | None = spec(
        None, "which blocks have it, counted from 0; null: the middle one", low=0
    )
    channels: int | None = count(None, "complex channels of a node; null: half of dim")
    heads: int = count(8, "heads that read it; divides channels")
    gate: str = spec(
        "pool", "how two nodes become one; unitary: an ablation", choices=("pool", "unitary")
    )
    disentangle: str = spec(
        "none",
        "lagged: gates between neighbouring pairs first, an ablation",
        choices=("none", "lagged"),
    )


@dataclass
class ModelConfig:
    """A language model on complex states of shape (batch, time, dim)."""

    name: str = spec(
        "stage2",
        "architecture: the mixers of its blocks; stage3: Stage 2's and the parts of koopman and "
        "mera; gpt: GPT-2's; momentum: a transformer whose tokens have a velocity; hf: what "
        "checkpoint holds",
        choices=MODELS,
    )
    dim: int = spec(512, "complex channels", low=2)
    blocks: int = count(6, "layers: a token mixer and a channel mixer each")
    heads: int = count(8, "heads of the attention; divides dim")
    hidden: int = count(
        2048,
        "complex units of Stage 1's mixer, terms of V of Stages 2 and 3, or units of the other "
        "models' perceptrons",
    )
    rope_base: float | None = spec(
        10000.0,
        "base of the rotary frequencies; null: attention without positions; not of gpt",
        above=1.0,
    )
    embedding_scale: float = positive(
        1.0, "factor on embedded tokens (the head reads the table without it); not of gpt"
    )
    coordinates: str = spec(
        "state",
        "what Stage 2's flow moves: Re and Im of the normalised state, or a learned map of it",
        choices=("state", "learned"),
    )
    stream: str = spec(
        "ordinary",
        "how Stage 2 stacks its blocks; reversible: the backward pass rebuilds every block's input "
        "from its output, so that memory does not grow with depth",
        choices=("ordinary", "reversible"),
    )
    free_motion: float = spec(
        0.5,
        "how much of Im z a Stage 2 block adds to Re z before training (learned a channel)",
        low=0.0,
    )
    shear: float = spec(
        0.0,
        "an ablation of Stage 1: how much of Im a block adds to Re before training (learned)",
        low=0.0,
    )
    positions: int = spec(
        1024, "learned positions of gpt, the most tokens that its sequences can have", low=2
    )
    lr: float | None = positive(None, "peak learning rate; null: train.lr")
    weight_decay: float | None = spec(
        None, "weight decay of its matrices; null: train.weight_decay", low=0.0
    )
    dropout: DropoutConfig = spec(DropoutConfig)
    koopman: KoopmanConfig = spec(KoopmanConfig, "of Stage 3 only")
    mera: MeraConfig = spec(MeraConfig, "of Stage 3 only")
    ode: OdeConfig = spec(OdeConfig, "used by Stages 2 and 3 only")
    trained_ode: TrainedOdeConfig = spec(
        TrainedOdeConfig, "the weights are trained with these, and their flow is then run by `ode`"
    )
    recompute: list[str] = spec(
        [],
        "what the backward pass computes again: less memory, more time (docs/memory.md)",
        choices=RECOMPUTE,
        empty=True,
    )
    trials: int | None = count(
        None, "settings that were tried on the validation split (+sweep=tune); null: unknown"
    )
    checkpoint: str | None = spec(
        None,
        "trained weights (safetensors), of hf a folder of transformers or a model's id on the hub; "
        "null: train, or take them from the cache",
        path=True,
    )
    architecture: str | None = spec(
        None,
        "of hf: a folder with its config.json, or a model's id on the hub, to be trained from "
        "random weights on the run's own tokens",
        path=True,
    )

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ConfigError(
                "heads",
                self.heads,
                f"does not divide dim={self.dim}",
                f"choose a divisor of {self.dim}",
            )
        if self.stream == "reversible":
            for key, value, fits, fix in (
                ("name", self.name, self.name == "stage2", "stage2"),
                ("coordinates", self.coordinates, self.coordinates == "state", "state"),
                ("dropout.attention", self.dropout.attention, not self.dropout.attention, "0"),
            ):
                if not fits:
                    raise ConfigError(key, value, "cannot be with stream=reversible", fix)
        if self.architecture:
            for key, value, fits, fix in (
                ("architecture", self.architecture, self.name == "hf", "model=hf"),
                ("checkpoint", self.checkpoint, not self.checkpoint, "null, to train it"),
            ):
                if not fits:
                    raise ConfigError(key, value, f"of {self.name}, with an architecture", fix)
        self._check_parts()

    def _check_parts(self) -> None:
        """Raise `ConfigError` for parts of Stage 3 that this model cannot have."""
        memory, mera = self.koopman.memory, self.mera
        for key, value in (("koopman.memory", memory), ("mera.mode", mera.mode)):
            if self.name != "stage3" and value != "off":
                fix = f"model=stage3, or model.{key}=off"
                raise ConfigError(key, value, f"is a part of stage3, not of {self.name}", fix)
        if mera.mode == "off":
            return
        if memory == "off":
            problem = "needs the memory: alone it cannot bind a token to the one before it"
            fix = "model.koopman.memory=damped, or unitary"
            raise ConfigError("mera.mode", mera.mode, problem, fix)
        if missing := [index for index in mera.blocks or [] if index >= self.blocks]:
            problem = f"no block {missing[0]} among {self.blocks}, counted from 0"
            fix = f"indices from 0 to {self.blocks - 1}"
            raise ConfigError("mera.blocks", mera.blocks, problem, fix)
        if self.mera_channels % mera.heads:
            channels = self.mera_channels
            problem = f"does not divide mera.channels={channels}"
            raise ConfigError("mera.heads", mera.heads, problem, f"choose a divisor of {channels}")

    @property
    def mera_blocks(self) -> list[int]:
        """Return the indices of the blocks that have a pyramid."""
        own = [self.blocks // 2] if self.mera.blocks is None else self.mera.blocks
        return [] if self.mera.mode == "off" else own

    @property
    def mera_channels(self) -> int:
        """Return the complex channels of a node of the pyramid."""
        return self.mera.channels or max(1, self.dim // 2)

    @property
    def has_flow(self) -> bool:
        """Return whether blocks have a Hamiltonian flow, which `ode` describes."""
        return self.name in ("stage2", "stage3")

    @property
    def flow_dim(self) -> int:
        """Return the channels of q, and of p, in a flow; a reversible stream has twice as many."""
        return 2 * self.dim if self.stream == "reversible" else self.dim

    def with_ode(self, **changes: Any) -> ModelConfig:
        """Return a copy whose flow has other settings."""
        return dataclasses.replace(self, ode=dataclasses.replace(self.ode, **changes))

    def as_trained(self) -> ModelConfig:
        """Return the model as it is trained: with the steps, dt and integrator of trained_ode."""
        given = {
            key: value
            for key, value in dataclasses.asdict(self.trained_ode).items()
            if value is not None
        }
        return dataclasses.replace(self.with_ode(**given), trained_ode=TrainedOdeConfig())
