"""Cross-entropy of a linear head without ever holding all its logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

IGNORED = -100  # a target that is not scored


def linear_cross_entropy(
    z: Float[Tensor, "N D"], weight: Float[Tensor, "V D"], targets: Int[Tensor, " N"], chunk: int
) -> Float[Tensor, ""]:
    """Sum over the scored targets of -ln softmax(weight z)[target], in nats.

    At most chunk x V logits exist at one time; with several chunks each one's logits are computed again in the
    backward pass.  Targets of -100 are not scored.
    """
    if z.shape[0] <= chunk:
        return _cross_entropy(z, weight, targets)
    total = z.new_zeros((), dtype=torch.float32)
    for start in range(0, z.shape[0], chunk):
        part = slice(start, start + chunk)
        total = total + checkpoint(_cross_entropy, z[part], weight, targets[part], use_reentrant=False)
    return total


def _cross_entropy(z: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(z, weight)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(dtype), targets, ignore_index=IGNORED, reduction="sum")
