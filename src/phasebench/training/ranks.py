"""One training by several processes: torchrun --nproc-per-node=N runner.py ..., a GPU each.

The parts of a batch are shared out: N ranks train as one process that splits a batch into N times
as many parts (train.accumulate), with the same dropout, to rounding. Rank 0 does all else. The
other ranks wait for the trainings that it announces.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

_PATIENCE = timedelta(days=30)  # of ranks that wait while rank 0 measures


def join(device: torch.device) -> None:
    """Meet the other processes that torchrun started, if it did: gloo on CPUs, NCCL on GPUs."""
    if distributed.is_torchelastic_launched():
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=_PATIENCE)


def leave() -> None:
    """End what `join` began; on rank 0 the others then leave too."""
    if size() > 1 and rank() == 0:
        announce(None)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's number among them."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def announce(request: Any) -> None:
    """Tell the other ranks of a training; None: that there is no other."""
    if size() > 1:
        distributed.broadcast_object_list([request], src=0, device=torch.device("cpu"))


def receive() -> Any:
    """Wait for what rank 0 announces next."""
    box: list[Any] = [None]
    distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@contextmanager
def ending_together(but: type[Exception]) -> Iterator[None]:
    """End this process by an error that other ranks do not see: they would wait for it for ever.

    `but`: an error that all ranks see.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, but) or size() == 1:
            raise
        problem = f"rank {rank()} of {size()}: {type(error).__name__}: {error}"
        raise SystemExit(f"{problem}\n  the others cannot go on without it") from error


def from_first(value: float) -> float:
    """Return rank 0's value on every rank."""
    told = torch.tensor([value], dtype=torch.float64)
    if size() > 1:
        distributed.broadcast(told, src=0)
    return told.item()


def wait() -> None:
    """Wait until every rank is here."""
    from_first(0.0)


def sum_over(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the ranks, all of them in one message."""
    if size() == 1:
        return
    parts = list(tensors)
    flat = torch.cat([x.flatten().float() for x in parts])
    distributed.all_reduce(flat)
    for x, summed in zip(parts, flat.split([x.numel() for x in parts]), strict=True):
        x.copy_(summed.view_as(x))
