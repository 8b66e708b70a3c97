"""Where Triton kernels of our own run, their launch, and how a machine without a GPU pretends that they do."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

INTERPRETED = (
    False  # kernels also run on a CPU: for tests, with TRITON_INTERPRET=1 before Triton is imported
)

_pretending: ContextVar[bool] = ContextVar("pretending", default=False)


@contextmanager
def pretended() -> Iterator[None]:
    """Within it, what works on fake tensors on the CPU allocates what it would on a GPU, and launches nothing."""
    token = _pretending.set(True)
    try:
        yield
    finally:
        _pretending.reset(token)


def no_kernels(device: torch.device) -> str | None:
    """Why Triton's kernels cannot run on that device, or None."""
    if _pretending.get():
        return None
    if device.type != "cuda" and not INTERPRETED:
        return f"need a GPU, not {device.type}"
    return _missing()


@functools.cache
def _missing() -> str | None:
    try:
        importlib.import_module("triton")
    except ImportError as error:
        return f"need Triton: {error}"
    return None


def launch(module: str, name: str, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run a kernel of that module on a grid; of tensors without values, whose memory is predicted, nothing."""
    if not isinstance(args[0], FakeTensor):
        getattr(_module(module), name)[grid](*args, **constants)


@functools.cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(name)
