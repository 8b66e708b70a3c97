"""Scoring: the sum of a model's cross-entropy over batches, in nats.

Also the device and the precision that models compute in.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from phasebench.config import ConfigError
from phasebench.dynamics.precision import float32_products
from phasebench.models import LanguageModel

# inputs (B, T); targets (B, T), -100 where nothing is scored
Batch = tuple[Int[Tensor, "_ _"], Int[Tensor, "_ _"]]

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NotFinite(ArithmeticError):
    """A loss is NaN or infinite."""


@dataclass(frozen=True)
class Score:
    """A summed cross-entropy."""

    nats: float  # over all scored tokens, summed in float64
    tokens: int  # scored
    batches: int
    complete: bool  # every batch was scored; false: max_batches cut the sum short

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """Return the perplexity of a token."""
        return perplexity(self.nats_per_token)


def perplexity(nats: float) -> float:
    """Compute exp(nats); infinite where float64 ends, at 709 nats.

    >>> round(perplexity(math.log(50257)))
    50257
    """
    return math.exp(nats) if nats < 709 else math.inf


def score(
    model: LanguageModel,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: str,
    loss_chunk: int,
    max_batches: int | None = None,
) -> Score:
    """Sum the cross-entropy of every batch, or of the first max_batches.

    model is on `device`; it is put in evaluation mode, and back afterwards. loss_chunk is the
    number of tokens whose logits exist at one time. No batch is skipped. Raises `NotFinite` at the
    first batch whose sum is NaN or infinite, `ValueError` where no token is scored; running out of
    memory propagates.
    """
    nats, tokens, done, complete = 0.0, 0, 0, True
    with mode(model, training=False), torch.no_grad():
        for inputs, targets in batches:
            if done == max_batches:
                complete = False
                break
            with autocast(device, precision):
                total, count = model.loss(inputs.to(device), targets.to(device), loss_chunk)
            value = float(total)
            model.check_lattices()
            if not math.isfinite(value):
                raise NotFinite(f"the summed loss of batch {done} is {value}, in {precision}")
            nats, tokens, done = nats + value, tokens + int(count), done + 1
    if not tokens:
        raise ValueError(f"none of the {done} batches has a token to score")
    return Score(nats, tokens, done, complete)


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model in training or evaluation mode, and back on leaving."""
    before = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(before)


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Compute in fp32 (TF32 off), tf32 (CUDA's float32 products in TF32), or bf16 or fp16 autocast.

    Leave it before the backward pass: autograd remembers the dtypes, but products of float32
    tensors follow `matmul_precision`, so keep that around both. Global settings are put back on
    leaving.
    """
    dtype = AUTOCAST_DTYPES.get(precision)
    with (
        matmul_precision(precision),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
    ):
        yield


def matmul_precision(precision: str) -> AbstractContextManager[None]:
    """Let float32 products use TF32 where precision is tf32 only; put back on leaving."""
    return float32_products("high" if precision == "tf32" else "highest")


def resolve_device(name: str) -> torch.device:
    """Return the device that a name means; `auto` is cuda where there is one, else cpu.

    Started by torchrun, `cuda` is the GPU of this process.
    Raises `ConfigError` for a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.distributed.is_torchelastic_launched():
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        choices = "device=auto, cpu, cuda or cuda:N"
        raise ConfigError("device", name, "not a device", choices) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = f"{torch.cuda.device_count()} found by torch {torch.__version__}"
        problem = f"no such GPU ({there}); choices: auto, cpu, cuda, cuda:N"
        fix = "device=cpu, or install a CUDA build of torch"
        raise ConfigError("device", name, problem, fix)
    return device
