"""What models share (tied head, loss, sizes), and what both stages share (embedding, blocks)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from phasebench.config import Decay, ModelConfig
from phasebench.data.batches import IGNORED
from phasebench.dynamics import HamiltonianFlow
from phasebench.models.block import Block, recomputed
from phasebench.models.cross_entropy import linear_cross_entropy
from phasebench.models.layers import ComplexDropout, ComplexEmbedding, ComplexNorm, Past, within
from phasebench.models.objective import PLAIN, Objective
from phasebench.models.tied_table import Deferred


class LanguageModel(nn.Module, ABC):
    """Tokens (B, T) -> logits (B, T, V), by a head that is tied to the embedding's table.

    Causal: logits at t depend on tokens <= t only.

    `recompute` names what the backward pass of `loss` computes again instead of keeping it
    (docs/memory.md); every model understands "head": the logits once more, so that their large
    gradient need not exist until the very end.
    """

    # registered before all else, so that its table has the name `embedding.weight`
    embedding: ComplexEmbedding
    recompute: frozenset[str] = frozenset()
    TABLES: tuple[str, ...] = ("embedding.",)  # beginnings of the names of tables

    @abstractmethod
    def through(
        self, z: Float[Tensor, "B T dim2"], *, sparing: bool, past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """Return the normalised states that the head reads; sparing memory as `recompute` says.

        With a past, of the one token that follows it, which it takes in (`step`).
        """

    def states(
        self, tokens: Int[Tensor, "B T"], past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """The normalised states that the head reads."""
        return self.through(self.embedding(tokens), sparing=False, past=past)

    @abstractmethod
    def compile_training(self) -> None:
        """Compile from now on what training gains by it; evaluation never runs compiled."""

    @property
    def head(self) -> nn.Parameter:
        """The table (V, 2 D) whose rows score the states; also the embedding's."""
        return self.get_parameter("embedding.weight")

    def forward(
        self, tokens: Int[Tensor, "B T"], past: Past | None = None
    ) -> Float[Tensor, "B T V"]:
        return F.linear(self.states(tokens, past), self.head)

    def step(self, token: Int[Tensor, " B"], state: Past) -> Float[Tensor, "B V"]:
        """Return the logits after one more token, as those of the whole sequence but for rounding.

        state: what layers keep of the tokens before, `{}` before the first; this token is added.
        """
        return self(token[:, None], state)[:, 0]

    def loss(
        self,
        tokens: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"],
        chunk: int | None,
        objective: Objective = PLAIN,
    ) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
        """Summed cross-entropy in nats and the number of scored targets; targets of -100 are not
        scored, nor those that the objective of a training leaves out.

        The logits of `chunk` tokens exist at one time; with None, a plain head, those of all, and
        the objective is the plain one.
        """
        deferred = Deferred()
        z, W = self.embedding.tied(tokens, deferred)
        z = self.through(z, sparing=torch.is_grad_enabled()).flatten(0, 1)
        if chunk is None:
            logits = F.linear(z, W)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            total = F.cross_entropy(
                logits, targets.flatten(), ignore_index=IGNORED, reduction="sum"
            )
        elif "head" in self.recompute and torch.is_grad_enabled():
            W = W.detach()
            total = linear_cross_entropy(z, W, targets.flatten(), chunk, deferred, objective)
        else:
            total = linear_cross_entropy(z, W, targets.flatten(), chunk, None, objective)
        return total, objective.scored(targets)

    @property
    def flows(self) -> list[HamiltonianFlow]:
        """Return the Hamiltonian flows among the layers, in their order."""
        return [module for module in self.modules() if isinstance(module, HamiltonianFlow)]

    def check_lattices(self) -> None:
        """Raise what `HamiltonianFlow.check` of each flow raises. Waits for the device."""
        for flow in self.flows:
            flow.check()

    def decay(self, name: str, parameter: nn.Parameter) -> Decay | None:
        """Name the recipe's decay of a parameter: of matrices and of tables; others have none.

        Potentials have their own: the size of their matrix is the scale over which V bends, and the
        decay of others would flatten V.
        """
        if parameter.ndim < 2:
            return None
        if ".ode.potential." in name:
            return "potential_decay"
        return "embedding_decay" if name.startswith(self.TABLES) else "weight_decay"

    def parameter_counts(self) -> dict[str, int]:
        """Number of real parameters: in all, and without the embedding."""
        total = sum(p.numel() for p in self.parameters())
        return {"total": total, "blocks": total - self.head.numel()}


class ComplexLanguageModel(LanguageModel):
    """Both stages: complex states of shape (B, T, 2 D) = [Re | Im], and logit_v = Re<e_v, z> with
    the embedding's e.

    Of each block "tail" in `recompute` is what follows the mixer, and "attention" is attention.
    With both, only the state before a mixer and what the mixer makes of it are kept, and one half
    of the batch is computed again after the other.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, block: type[Block]) -> None:
        super().__init__()
        self.embedding = ComplexEmbedding(vocab_size, config.dim, config.dropout.embedding)
        self.scale = config.embedding_scale
        self.drop_in = ComplexDropout(config.dropout.input, locked=config.dropout.locked)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.blocks))
        self.norm = ComplexNorm(config.dim, gain=True)
        self.drop_out = ComplexDropout(config.dropout.output, locked=config.dropout.locked)
        self.recompute = frozenset(config.recompute)
        self.compiled: list[Callable[..., Tensor]] = []

    def compile_training(self) -> None:
        """The blocks, all but their flows."""
        self.compiled = [block.compiled() for block in self.blocks]  # type: ignore[operator]

    def through(
        self, z: Float[Tensor, "B T dim2"], *, sparing: bool, past: Past | None = None
    ) -> Float[Tensor, "B T dim2"]:
        """The normalised states that the head reads, of embedded tokens."""
        attention, tail = (sparing and part in self.recompute for part in ("attention", "tail"))
        if attention and tail:
            return self._from_mixer_to_mixer(z)
        z = self._enter(z)
        blocks = self.compiled if self.training and self.compiled else self.blocks
        for i, block in enumerate(blocks):
            z = block(z, within(past, str(i)), attention=attention, tail=tail)
        return self._end(z)

    def _from_mixer_to_mixer(self, z: Tensor) -> Tensor:
        """Of the end of one block and the start of the next together, only the inputs are kept."""
        blocks: list[Block] = list(self.blocks)  # type: ignore[arg-type]
        z = _in_halves(lambda z: blocks[0].attend(self._enter(z)), z)
        for block, then in zip(blocks, [*(b.attend for b in blocks[1:]), self._end], strict=True):
            z = _in_halves(partial(_merge_and, then, block), z, *block.mix(z))
        return z

    def _enter(self, z: Tensor) -> Tensor:
        return self.drop_in(z if self.scale == 1.0 else self.scale * z)

    def _end(self, z: Tensor) -> Tensor:
        return self.drop_out(self.norm(z))


def _in_halves(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Call function, again in the backward pass for one half of the batch after the other."""
    halves = zip(*(x.split(-(-len(x) // 2)) for x in inputs), strict=True)
    parts = [recomputed(True, function, *half) for half in halves]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _merge_and(then: Callable[[Tensor], Tensor], block: Block, z: Tensor, *mixed: Tensor) -> Tensor:
    return then(
        recomputed(True, block.merge, z, *mixed)
    )  # not kept while the backward pass is in `then` either


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


# torch counts the fused attention of GPUs only
_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def flops_per_token(model: LanguageModel, seq: int) -> float:
    """Count FLOPs of a forward pass a token: 2 a multiply-add, of products and attention only.

    Flows run eagerly while they are counted: torch sees nothing of a fused kernel.
    """
    tokens = torch.zeros(1, seq, dtype=torch.int64, device=model.head.device)
    counter = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION)
    with counter, torch.no_grad(), ExitStack() as stack:
        for flow in model.flows:
            stack.callback(setattr, flow, "gradient", flow.gradient)
            flow.gradient = "backprop"
        model(tokens)
    return counter.get_total_flops() / seq
