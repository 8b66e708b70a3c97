"""One arm of the memory benchmark: a model with one gradient method, a forward and a backward pass of one batch.

    python -m phasebench.bench.vram_arm REQUEST.json RESULT.json

measures an arm on a GPU, in a process of its own; `predict` predicts one anywhere.  Weights and tokens are random:
memory depends on sizes only.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phasebench import evaluation
from phasebench.config import DropoutConfig, ModelConfig, OdeConfig
from phasebench.measure.memory import CudaMeter, NotTold, process_bytes
from phasebench.measure.predict import predicting
from phasebench.measure.step import StepBytes, measure_step
from phasebench.models import LanguageModel, build_model


@dataclass(frozen=True)
class ArmRequest:
    """What an arm computes; the gradient method is `model.ode.gradient`."""

    model: ModelConfig
    batch: int
    seq: int
    vocab: int
    precision: str
    loss_chunk: int
    repeats: int  # measured passes
    device: str  # that is measured

    @staticmethod
    def from_json(values: dict[str, Any]) -> ArmRequest:
        """The inverse of `dataclasses.asdict`."""
        model = values["model"]
        groups = {"dropout": DropoutConfig(**model["dropout"]), "ode": OdeConfig(**model["ode"])}
        return ArmRequest(**{**values, "model": ModelConfig(**{**model, **groups})})


def predict(request: ArmRequest) -> StepBytes:
    """The arm's memory by the sizes of its tensors, on any machine; takes seconds and next to no memory."""
    with predicting() as tracker:
        model, tokens = _prepare(request, torch.device("cpu"))
        return measure_step(model, lambda: _loss(model, tokens, request), tracker)


def measure(request: ArmRequest) -> dict[str, Any]:
    """The arm's memory on a GPU: ``status`` ok with ``passes``, or oom with what was allocated by then, in bytes.

    A first pass is not counted: it makes what libraries keep (cuBLAS workspaces), which later passes then include.
    """
    device = torch.device(request.device)
    meter = CudaMeter(device)
    total = torch.cuda.get_device_properties(device).total_memory
    try:
        model, tokens = _prepare(request, device)
        torch.cuda.empty_cache()  # what drawing the weights took
        _timed_pass(model, tokens, request, meter)
        passes = [_timed_pass(model, tokens, request, meter) for _ in range(request.repeats)]
    except torch.OutOfMemoryError:
        return {"status": "oom", "peak_bytes": meter.peak(), "device_bytes": total}
    return {"status": "ok", "passes": passes, "device_bytes": total, **_process(device)}


def _prepare(request: ArmRequest, device: torch.device) -> tuple[LanguageModel, Tensor]:
    torch.manual_seed(0)
    with device:
        tokens = torch.randint(request.vocab, (request.batch, request.seq + 1))
        return build_model(request.model, request.vocab).train(), tokens


def _loss(model: LanguageModel, tokens: Tensor, request: ArmRequest) -> Tensor:
    with evaluation.autocast(tokens.device, request.precision):
        total, _ = model.loss(tokens[:, :-1], tokens[:, 1:], request.loss_chunk)
    return total / tokens[:, 1:].numel()


def _timed_pass(model: LanguageModel, tokens: Tensor, request: ArmRequest, meter: CudaMeter) -> dict[str, Any]:
    torch.cuda.synchronize(meter.device)
    start = time.perf_counter()
    with evaluation.matmul_precision(request.precision):
        found = measure_step(model, lambda: _loss(model, tokens, request), meter)
    torch.cuda.synchronize(meter.device)
    return as_json(found) | {"reserved": meter.reserved(), "seconds": time.perf_counter() - start}


def _process(device: torch.device) -> dict[str, Any]:
    try:
        return {"process_bytes": process_bytes(device), "process_reason": None}
    except NotTold as reason:
        return {"process_bytes": None, "process_reason": str(reason)}


def as_json(found: StepBytes) -> dict[str, int]:
    """The bytes of a pass, with those that follow from the others."""
    return dataclasses.asdict(found) | {"peak": found.peak, "transient": found.transient}


def main(arguments: list[str]) -> None:
    """Measure the arm that the file arguments[0] asks for and write the result to the file arguments[1]."""
    asked, answered = map(Path, arguments)
    request = ArmRequest.from_json(json.loads(asked.read_text(encoding="utf-8")))
    answered.write_text(json.dumps(measure(request)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
