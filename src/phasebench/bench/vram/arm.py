"""One arm of the memory benchmark: a training step of a model with one gradient method.

`measure` measures an arm on a GPU, in a process of its own; `predict` predicts one anywhere.
Weights and tokens are random: memory depends on sizes only.
"""

from __future__ import annotations

import dataclasses
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from phasebench.bench.vram.gpus import Gpu
from phasebench.bench.vram.meter import CudaMeter, StepBytes, measure_step, process_bytes
from phasebench.bench.vram.predict import StorageTracker, predicting
from phasebench.config import ModelConfig, TrainConfig
from phasebench.dynamics import as_on_gpu, refused
from phasebench.models import LanguageModel, build_flow, build_model
from phasebench.training import scoring
from phasebench.training.optimizer import make_optimizer


@dataclass(frozen=True)
class ArmRequest:
    """What an arm computes, with the gradients of `model.ode.gradient`.

    The loss is computed in chunks of `loss_chunk` tokens, or of None with a plain head.
    """

    model: ModelConfig
    batch: int
    seq: int
    vocab: int
    precision: str
    loss_chunk: int | None
    optimizer: str
    repeats: int  # measured passes
    device: str  # that is measured
    limit_bytes: int | None = None  # that torch may take of it

    @property
    def has_ordinary_flow(self) -> bool:
        """Whether blocks end in a flow of their own, which the stream is not part of."""
        return self.model.has_flow and self.model.stream == "ordinary"

    def at(self, axis: str, value: int) -> ArmRequest:
        """Return the request with another sequence length, batch or number of steps."""
        changes = {"model": self.model.with_ode(steps=value)} if axis == "steps" else {axis: value}
        return dataclasses.replace(self, **changes)

    def value(self, axis: str) -> int:
        """Return the sequence length, batch or number of steps."""
        return self.model.ode.steps if axis == "steps" else getattr(self, axis)


def predict(request: ArmRequest, gpu: Gpu | None = None) -> tuple[StepBytes, int]:
    """Predict the arm's memory on a GPU, and what its allocator reserves, on any machine.

    Raises `PredictedOutOfMemory` where the request has a limit that the allocator would pass.
    Without a `gpu` only tensors are counted. A model of the package transformers, which reads
    values of tensors, is run for it.
    """
    counter = StorageTracker if request.model.name in ("gpt", "hf") else predicting
    with as_on_gpu() if gpu else nullcontext(), counter(gpu, request.limit_bytes) as tracker:
        model, tokens, optimizer = _prepare(request, torch.device("cpu"))
        if gpu:
            tracker.memory.malloc(workspaces(request, gpu))  # nothing gives it back
            if request.has_ordinary_flow:
                # what a flow keeps for all passes, an earlier pass has made
                with torch.no_grad(), scoring.autocast(tokens.device, request.precision):
                    z = [torch.zeros(request.batch, request.seq, request.model.dim)] * 2
                    model.blocks[0].ode(*z)  # type: ignore[operator,union-attr]
                del z
        if optimizer:  # its state is of an earlier step
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
        step = measure_step(model, lambda: _loss(model, tokens, request), tracker, optimizer)
        return step, tracker.memory.reserved


def workspaces(request: ArmRequest, gpu: Gpu) -> int:
    """Return the bytes of cuBLAS workspaces on that GPU.

    The fused exact adjoint records its products on a stream of its own.
    """
    if request.model.ode.gradient != "adjoint_exact" or not request.has_ordinary_flow:
        return gpu.workspaces()
    with as_on_gpu(), torch.device("meta"):
        dtype = scoring.AUTOCAST_DTYPES.get(request.precision)
        H = build_flow(request.model).hamiltonian(dtype)
        return gpu.workspaces(streams=not refused(torch.device("cpu"), torch.float32, H))


def measure(request: ArmRequest) -> dict[str, Any]:
    """Measure the arm on a GPU: ``status`` ok with ``passes``, or oom with the peak by then.

    A first pass is not counted: it makes what libraries and the optimizer keep, which later passes
    then include.
    """
    device = torch.device(request.device)
    meter = CudaMeter(device)
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        if request.limit_bytes is not None:
            share = min(1.0, request.limit_bytes / total)
            torch.cuda.set_per_process_memory_fraction(share, device.index or 0)
        model, tokens, optimizer = _prepare(request, device)
        torch.cuda.empty_cache()  # what drawing the weights took
        passes = []
        for _ in range(1 + request.repeats):
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            with scoring.matmul_precision(request.precision):
                step = measure_step(model, lambda: _loss(model, tokens, request), meter, optimizer)
            torch.cuda.synchronize(device)
            seconds = time.perf_counter() - start
            # live tensors and torch's cache
            reserved = torch.cuda.memory_reserved(device)
            passes.append(as_json(step) | {"reserved": reserved, "seconds": seconds})
    except torch.OutOfMemoryError:
        return {"status": "oom", "peak_bytes": meter.peak(), "device_bytes": total}
    used, reason = process_bytes(device)
    process = {"process_bytes": used, "process_reason": reason}
    return {"status": "ok", "passes": passes[1:], "device_bytes": total, **process}


def _prepare(
    request: ArmRequest, device: torch.device
) -> tuple[LanguageModel, Tensor, AdamW | None]:
    torch.manual_seed(0)
    with device:
        tokens = torch.randint(request.vocab, (request.batch, request.seq + 1))
        model = build_model(request.model, request.vocab).train()
    adamw = request.optimizer == "adamw"
    return model, tokens, make_optimizer(model, TrainConfig()) if adamw else None


def _loss(model: LanguageModel, tokens: Tensor, request: ArmRequest) -> Tensor:
    with scoring.autocast(tokens.device, request.precision):
        total, _ = model.loss(tokens[:, :-1], tokens[:, 1:], request.loss_chunk)
    return total / tokens[:, 1:].numel()


def as_json(step: StepBytes) -> dict[str, int]:
    """Return the bytes of a pass, with those that follow from the others."""
    return dataclasses.asdict(step) | {"peak": step.peak, "transient": step.transient}
