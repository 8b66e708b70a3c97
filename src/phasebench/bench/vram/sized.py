"""Tensors that have sizes and no values, and operators on them.

A `Sized` tensor is one of the CPU for autograd and autocast. Its storage is that of a tensor of the
meta device. An operator's result depends on the sizes of its arguments alone, so each is asked once
for the sizes that it returns; torch's own `FakeTensorMode` returns the same and takes four times as
long.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_CPU, _META = torch.device("cpu"), torch.device("meta")


class Sized(Tensor):
    """A tensor without values, whose sizes and storage are those of `meta`."""

    meta: Tensor
    sizes: _Sizes

    @staticmethod
    def __new__(cls, meta: Tensor, sizes: _Sizes | None = None) -> Sized:
        """Make a tensor of the CPU with the sizes of a tensor of the meta device."""
        shape, stride, dtype = out_sizes = sizes or _Sizes.of(meta)
        offset = meta.storage_offset()
        out = Tensor._make_wrapper_subclass(cls, shape, stride, offset, dtype=dtype, device=_CPU)
        out.meta, out.sizes = meta, out_sizes
        return out

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{func}: this tensor has no values")


class _Sizes(NamedTuple):
    """What an operator's result depends on, of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, x: Tensor) -> _Sizes:
        """Return those of a tensor."""
        return x.sizes if isinstance(x, Sized) else cls(tuple(x.shape), x.stride(), x.dtype)

    def meta(self) -> Tensor:
        """Make a tensor of the meta device."""
        return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=_META)


def storage(x: Tensor) -> torch.UntypedStorage:
    """Return the storage behind a tensor, sized or real."""
    return (x.meta if isinstance(x, Sized) else x).untyped_storage()


def run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the operator's result for these arguments, as sized tensors."""
    if func.namespace == "profiler":
        return func(*args, **kwargs)
    if _takes_device(func):
        kwargs["device"] = _META
    values = (*args, *kwargs.values())
    sizes = [x.sizes if type(x) is Sized else _over(_sizes, x) for x in values]
    new = _new(func, tuple(kwargs), *sizes)
    if new is not _SHARED:
        return _over(_tensor, new)
    owners: dict[Tensor, Tensor] = {}

    def meta(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        inner = x.meta if isinstance(x, Sized) else x.to(_META)
        owners[inner] = x
        return inner

    # what an operator changes in place is no new tensor
    out = _call(func, tuple(kwargs), _over(meta, values))
    return _over(
        lambda x: (owners[x] if x in owners else Sized(x)) if isinstance(x, Tensor) else x, out
    )


def _tensor(x: Any) -> Any:
    return Sized(x.meta(), x) if isinstance(x, _Sizes) else x


_SHARED = object()  # the mark of operators that return views, or what they changed


@functools.lru_cache(2**16, typed=True)
def _new(func: Any, names: tuple[str, ...], *values: Any) -> Any:
    """Return the sizes of the tensors that an operator returns, or `_SHARED`."""
    given = _over(lambda x: x.meta() if isinstance(x, _Sizes) else x, values)
    out = _call(func, names, given)
    storages = {x.untyped_storage()._cdata for x in _tensors(given)}
    for x in _tensors(out):
        own = x.untyped_storage()
        if own._cdata in storages or own.nbytes() != _sizes(x).meta().untyped_storage().nbytes():
            return _SHARED
        storages.add(own._cdata)
    return _over(_sizes, out)


def _call(func: Any, names: tuple[str, ...], values: Sequence[Any]) -> Any:
    at = len(values) - len(names)
    return func(*values[:at], **dict(zip(names, values[at:], strict=True)))


def _sizes(x: Any) -> Any:
    return _Sizes.of(x) if isinstance(x, Tensor) else x


def _over(change: Callable[[Any], Any], value: Any) -> Any:
    """Change what is in lists and tuples, which become tuples."""
    if type(value) is tuple or type(value) is list:
        return tuple([_over(change, item) for item in value])
    return change(value)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _over(lambda x: found.append(x) if isinstance(x, Tensor) else None, value)
    return found


@functools.cache
def _takes_device(func: Any) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)
