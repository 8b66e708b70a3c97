"""Memory that a program would need on a GPU, predicted without one: sizes of live storages, nothing allocated.

`StorageTracker` sees every operator's outputs and adds up the storages behind them until they die.  Under
`FakeTensorMode` tensors have shapes but no data, so that any size can be asked for; `predicting` combines the two.
Not seen: what a kernel allocates for itself, and libraries' workspaces (cuBLAS keeps tens of MB).  The fake tensors
are on the CPU, whose fused attention stands for the GPU's: neither holds the T x T scores.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.function import BackwardCFunction
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes: the CUDA caching allocator rounds every size up to a multiple of it

_aten: Any = torch.ops.aten


@contextmanager
def predicting() -> Iterator[StorageTracker]:
    """Within it, tensors are fake and on the CPU, and the tracker counts their bytes; make the model within it too."""
    with FakeTensorMode(), StorageTracker() as tracker:
        yield tracker


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of live storages made within it, each rounded up to `BLOCK`, and their peak: a `Meter`.

    Works on fake and on real tensors.  Views share their storage and count once.

    Example:
        >>> with predicting() as tracker:
        ...     x = torch.zeros(1000, 1000)
        ...     y = (x + 1).sum()
        >>> tracker.allocated(), tracker.peak()
        (4000768, 8001024)
    """

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, weakref.ref[Any]] = {}
        self._allocated = self._peak = 0
        self._unsettled: tuple[weakref.ref[Any], int] | None = None

    def allocated(self) -> int:
        """Bytes live now."""
        return self._allocated

    def peak(self) -> int:
        """The most bytes live at one time since the last reset."""
        self._settle()
        return self._peak

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        self._unsettled, self._peak = None, self._allocated

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._settle()
        out = func(*args, **(kwargs or {}))
        if func is _aten._efficientzerotensor.default:  # a zero without memory, which its fake does not know
            return out
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._track(tensor)
        if func is _aten.add.Tensor and _autograd_accumulates() and not args[0]._is_view():
            self._unsettled = weakref.ref(args[0].untyped_storage()), self._allocated
        else:
            self._peak = max(self._peak, self._allocated)
        return out

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if key in self._live:
            return

        def free(_: Any) -> None:
            del self._live[key]
            self._allocated -= size

        self._live[key] = weakref.ref(storage, free)
        self._allocated += size

    def _settle(self) -> None:
        """Count the sum of two gradients at its real cost, known once it is known whether the first was its last use.

        If so, and it is no view, autograd adds in place (torch/csrc/autograd/input_buffer.cpp); but never within a
        dispatch mode such as this, where it would appear to need a tensor more.
        """
        if self._unsettled:
            operand, allocated = self._unsettled
            self._unsettled = None
            if operand() is not None:
                self._peak = max(self._peak, allocated)


def _autograd_accumulates() -> bool:
    """Whether autograd's engine itself is at work, not Python code that it has called, and may add in place."""
    node = torch._C._current_autograd_node()
    return node is not None and not isinstance(node, BackwardCFunction) and not torch.is_grad_enabled()
