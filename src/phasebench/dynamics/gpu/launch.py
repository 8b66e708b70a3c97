"""Where Triton kernels of our own run, and how a machine without a GPU pretends that they do.

This is the one place that knows of predictions of memory: within `as_on_gpu` tensors have sizes but
no values, so what would run on a GPU is allocated and not run.  (Operators with a registered fake,
torch.library, would hide from the predictor what they allocate within, cost 40 us a launch, and
know no workspace that lives on between calls.)
"""

from __future__ import annotations

import functools
import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

INTERPRETED = False  # also on a CPU: for tests, with TRITON_INTERPRET=1 before Triton is imported

_workspaces: OrderedDict[Any, Any] = OrderedDict()
_pretended: ContextVar[OrderedDict[Any, Any] | None] = ContextVar("pretended", default=None)


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Within it, fake tensors on the CPU take the memory that they would on a GPU."""
    token = _pretended.set(OrderedDict())
    try:
        yield
    finally:
        _pretended.reset(token)


def pretending() -> bool:
    """Return whether memory is predicted: nothing is launched."""
    return _pretended.get() is not None


def workspaces() -> OrderedDict[Any, Any]:
    """Return what is kept for the next call; a prediction has its own, without values."""
    own = _pretended.get()
    return _workspaces if own is None else own


def release() -> None:
    """Give back the workspaces."""
    _workspaces.clear()


def capturing(device: torch.device) -> bool:
    """Return whether a CUDA graph is being captured.

    What is launched then has no results yet, nor may one ask for any.
    """
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def no_kernels(device: torch.device) -> str | None:
    """Return why Triton's kernels cannot run on that device, or None."""
    if pretending():
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
    """Run a kernel of that module on a grid."""
    if not pretending():
        getattr(importlib.import_module(module), name)[grid](*args, **constants)


def recorded(
    step: Callable[..., tuple[Tensor, ...]], state: tuple[Tensor, ...]
) -> Callable[..., tuple[Tensor, ...]]:
    """Return step as a CUDA graph, which computes the same without its launches.

    `state` are tensors of the shapes that it will be called with; it is called here to warm up.
    """
    buffers = [x.clone() for x in state]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(*buffers)  # libraries choose and allocate
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = step(*buffers)

    def replay(*state: Tensor) -> tuple[Tensor, ...]:
        for buffer, x in zip(buffers, state, strict=True):
            buffer.copy_(x)
        graph.replay()
        return tuple(x.clone() for x in results)

    return replay
