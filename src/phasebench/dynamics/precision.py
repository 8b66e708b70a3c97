"""The precision of products: under autocast, and of float32 numbers, a global setting of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the precision of products on such a device under autocast; None without it."""
    kind = device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Multiply float32 numbers as `torch.set_float32_matmul_precision` says; put back on leaving.

    A backward pass that computes again what the forward pass did needs the forward pass' setting
    for the same bits.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
