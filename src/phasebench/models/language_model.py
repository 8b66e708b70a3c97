"""What the models share: tied head, loss, sizes; and what both stages share: embedding, blocks, final norm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from phasebench.config import ModelConfig
from phasebench.nn import ComplexDropout, ComplexEmbedding, ComplexNorm, linear_cross_entropy
from phasebench.nn.loss import IGNORED


class LanguageModel(nn.Module, ABC):
    """Tokens (B, T) -> logits (B, T, V), by a head that is tied to the embedding's table.

    Causal: logits at t depend on tokens <= t only.
    """

    embedding: nn.Module  # registered before all else, so that its table has the name `embedding.weight`
    NOT_DECAYED: tuple[str, ...] = ("embedding.",)  # beginnings of the names of tables

    @abstractmethod
    def states(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T dim2"]:
        """The normalised states that the head reads."""

    @property
    def head(self) -> nn.Parameter:
        """The table (V, 2 D) whose rows score the states; also the embedding's."""
        return self.get_parameter("embedding.weight")

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return F.linear(self.states(tokens), self.head)

    def loss(
        self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"], chunk: int
    ) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
        """Summed cross-entropy in nats and the number of scored targets; targets of -100 are not scored."""
        z = self.states(tokens).flatten(0, 1)
        total = linear_cross_entropy(z, self.head, targets.flatten(), chunk)
        return total, (targets != IGNORED).sum()

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay applies: to matrices, not to gains, biases and tables."""
        return parameter.ndim >= 2 and not name.startswith(self.NOT_DECAYED)

    def parameter_counts(self) -> dict[str, int]:
        """Number of real parameters: in all, and without the embedding."""
        total = sum(p.numel() for p in self.parameters())
        return {"total": total, "blocks": total - self.head.numel()}


class ComplexLanguageModel(LanguageModel):
    """Both stages: complex states of shape (B, T, 2 D) = [Re | Im], and logit_v = Re<e_v, z> with the embedding's e."""

    def __init__(self, config: ModelConfig, vocab_size: int, block: Callable[[ModelConfig], nn.Module]) -> None:
        super().__init__()
        self.embedding = ComplexEmbedding(vocab_size, config.dim, config.dropout.embedding)
        self.drop_in = ComplexDropout(config.dropout.input, locked=config.dropout.locked)
        self.blocks = nn.ModuleList(block(config) for _ in range(config.blocks))
        self.norm = ComplexNorm(config.dim, gain=True)
        self.drop_out = ComplexDropout(config.dropout.output, locked=config.dropout.locked)

    def states(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T dim2"]:
        """The normalised states that the head reads."""
        z = self.drop_in(self.embedding(tokens))
        for block in self.blocks:
            z = block(z)
        return self.drop_out(self.norm(z))


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


# torch counts the fused attention of GPUs only
_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


def flops_per_token(model: LanguageModel, seq: int) -> float:
    """FLOPs of one forward pass a token (2 a multiply-add; products and attention only), counted by torch."""
    device = model.head.device
    tokens = torch.zeros(1, seq, dtype=torch.int64, device=device)
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter, torch.no_grad():
        model(tokens)
    return counter.get_total_flops() / seq
