"""A table that is read at both ends of a model: rows looked up at its start, a head at its end.

Legend: W table (V, D); z rows looked up (B, T, D). dL/dW has a sparse part, of the lookup, and a
dense one, of the head. Autograd would make both dense and add them; here the lookup's is added into
the head's in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass
class Deferred:
    """Parts of dL/dW that the lookup's backward pass adds, the last of the whole model's."""

    parts: list[Callable[[Tensor], None]] = field(
        default_factory=list
    )  # each adds its part in place

    def add_to(self, dW: Float[Tensor, "V D"]) -> None:
        """Add every part, once."""
        while self.parts:
            self.parts.pop()(dW)


def lookup(
    W: Float[Tensor, "V D"], tokens: Int[Tensor, "B T"], deferred: Deferred
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "V D"]]:
    """The rows of W at tokens, and W for a head, whose gradient the lookup's is added to.

    What reads the returned W must give it a gradient that nothing else holds: it is changed in
    place.
    """
    z, head = _Lookup.apply(W, tokens, deferred)
    return z, head


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, W: Tensor, tokens: Tensor, deferred: Deferred) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(tokens)
        ctx.plain = deferred, W.shape, W.dtype
        ctx.set_materialize_grads(False)
        return F.embedding(tokens, W), W.view_as(W)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:  # pyright: ignore
        dz, dW = grads
        (tokens,), (deferred, shape, dtype) = ctx.saved_tensors, ctx.plain
        total = (
            torch.zeros(shape, dtype=dtype, device=tokens.device) if dW is None else dW.contiguous()
        )
        deferred.add_to(total)
        if dz is not None:
            total.index_add_(0, tokens.flatten(), dz.flatten(0, -2).to(dtype))
        return total, None, None
