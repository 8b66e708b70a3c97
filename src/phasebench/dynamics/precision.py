"""The precision of products of float32 numbers, which is a global setting of torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
