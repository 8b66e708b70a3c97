"""Activations made again in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(active: bool, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """function(*inputs); if active, only the inputs are kept for the backward pass, which calls it a second time.

    The second call sees the same random numbers and the same autocast, so that gradients have the same bits.
    """
    if active and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False)  # type: ignore[return-value]
    return function(*inputs)
