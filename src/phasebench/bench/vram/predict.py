"""Predicts the memory that a program needs on a GPU, without one: sizes of live storages.

`StorageTracker` sees every operator's outputs and counts the storages behind them until they die.
Within `predicting` tensors are `Sized`, with shapes but no data, so that any size can be asked for.
For a named GPU it adds what libraries and kernels take (`phasebench.bench.vram.gpus`) and how the
caching allocator cuts its segments (`phasebench.bench.vram.allocator`). Sized tensors are on the
CPU, whose fused attention stands for the GPU's: neither holds the T x T scores.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from phasebench.bench.vram import sized
from phasebench.bench.vram.allocator import Block, CachingAllocator, ExactAllocator
from phasebench.bench.vram.gpus import Gpu, attention_backward_bytes, reduction_bytes

_aten: Any = torch.ops.aten
_REDUCTIONS = {  # operator -> which of its arguments are the axes
    _aten.sum.dim_IntList: 1,
    _aten.mean.dim: 1,
    _aten.amax.default: 1,
    _aten.sum.default: None,
    _aten.mean.default: None,
    _aten.max.default: None,
}
_ATTENTION_BACKWARD = _aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@contextmanager
def predicting(gpu: Gpu | None = None, limit: int | None = None) -> Iterator[StorageTracker]:
    """Make tensors `Sized` and count their bytes; make the model within it too.

    With a `gpu`, as that device would: workspaces included, and `PredictedOutOfMemory` raised where
    more than `limit` bytes would be reserved. Without one, tensors alone.
    """
    with StorageTracker(gpu, limit, sized.run) as tracker:
        yield tracker


@dataclass
class _Live:
    """A live storage and its block; None while it may not need one (`StorageTracker._sum`)."""

    storage: weakref.ref[Any]
    size: int
    block: Block | None


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of live storages made within it, by an allocator's blocks.

    Works on sized and on real tensors.  Views share their storage and count once.

    Examples:
        >>> with predicting() as tracker:
        ...     x = torch.zeros(1000, 1000)
        ...     y = (x + 1).sum()
        >>> tracker.allocated(), tracker.peak()
        (4000768, 8001024)
    """

    def __init__(
        self,
        gpu: Gpu | None = None,
        limit: int | None = None,
        run: Callable[..., Any] = lambda func, *args, **kwargs: func(*args, **kwargs),
    ) -> None:
        super().__init__()
        self.run = run
        self.gpu, self.memory = gpu, CachingAllocator(limit) if gpu else ExactAllocator()
        self._live: dict[int, _Live] = {}
        self._peak = 0
        # storages of the first operand and of the sum of two gradients, which takes over the
        # operand's block if that dies next
        self._sum: tuple[int, int] | None = None

    def allocated(self) -> int:
        """Bytes live now."""
        self._settle()
        return self.memory.allocated

    def peak(self) -> int:
        """The most bytes live at one time since the last reset."""
        self._settle()
        return self._peak

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        self._settle()
        self._peak = self.memory.allocated

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._settle()
        out = self.run(func, *args, **(kwargs or {}))
        # a zero without memory, which the meta device does not know
        if func is _aten._efficientzerotensor.default:
            return out
        sums = False
        if func is _aten.add.Tensor and not torch.is_grad_enabled():
            # autograd's engine adds two gradients, not Python code that it has called
            node = torch._C._current_autograd_node()
            by_engine = node is not None and not isinstance(node, BackwardCFunction)
            sums = by_engine and not args[0]._is_view()
        for tensor in [out] if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._track(sized.storage(tensor), later=sums)
        if sums:
            self._sum = sized.storage(args[0])._cdata, sized.storage(out)._cdata
        if within := self._within(func, args):
            block = self.memory.malloc(within)
            self._count()
            self.memory.free(block)
        self._count()
        return out

    def _within(self, func: Any, args: Any) -> int:
        """Bytes that the kernel takes for itself."""
        if self.gpu is None:
            return 0
        if func in _REDUCTIONS:
            at = _REDUCTIONS[func]
            axes = [] if at is None or len(args) <= at or args[at] is None else list(args[at])
            return reduction_bytes(args[0], axes, self.gpu)
        return attention_backward_bytes(args[1]) if func is _ATTENTION_BACKWARD else 0

    def _count(self) -> None:
        self._peak = max(self._peak, self.memory.allocated)

    def _track(self, storage: Any, later: bool) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._live:
            block = None if later else self.memory.malloc(size)
            self._live[key] = _Live(weakref.ref(storage, lambda _: self._died(key)), size, block)

    def _died(self, key: int) -> None:
        dead = self._live.pop(key)
        operand, result = self._sum or (None, None)
        if result == key:
            self._sum = None
        elif result and operand == key and self._live[result].size == dead.size:
            self._live[result].block, self._sum = dead.block, None
        elif dead.block:
            self.memory.free(dead.block)

    def _settle(self) -> None:
        """Give the sum of two gradients memory of its own, unless the first was then dead.

        If so, and it is no view, autograd adds in place (torch/csrc/autograd/input_buffer.cpp); but
        never within a dispatch mode such as this, where it would appear to need a tensor more.
        """
        if self._sum:
            total = self._live[self._sum[1]]
            total.block, self._sum = self.memory.malloc(total.size), None
            self._count()
