"""Peak memory of a forward and backward pass of one model with each gradient method.

On a GPU every arm is measured in a process of its own and carries its prediction beside the
measurement; without one the peaks are predicted for a named GPU (`phasebench.bench.vram.predict`),
and labelled so. The exact adjoint is compared with the smaller of the two full backprops. GB = 1e9
bytes, GiB = 2^30 bytes. docs/memory.md says what is counted.

An arm that runs out of memory has a result: what it had allocated by then, a lower bound of its
peak. If that decides a gate it is decided; if not, the gate could not be measured.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from phasebench.bench.child import ChildFailed, call
from phasebench.bench.vram.arm import ArmRequest, as_json, measure, predict, workspaces
from phasebench.bench.vram.find import curves, find, findings
from phasebench.bench.vram.gpus import GPUS, Gpu
from phasebench.bench.vram.verdict import Arm, judge
from phasebench.bench.workbench import Workbench, require_ode
from phasebench.config import ConfigError, VramConfig
from phasebench.results.gate import BenchResult

_NOTES = {
    "weights": "random: memory depends on sizes only",
    "allocated": "torch's caching allocator: parameters, tokens, workspaces (cuBLAS), states, "
    "gradients, optimizer",
    "process": "as NVML counts it: also the CUDA context, loaded kernels and the allocator's cache",
    "predicted": "live tensors, cuBLAS workspaces and partial sums of reductions, in blocks of a "
    "simulated allocator",
}


def check(workbench: Workbench, config: VramConfig) -> None:
    """Raise `ConfigError` for a model without an ODE, or a limit above this GPU's memory."""
    require_ode(workbench.config)
    if config.limit_gb is not None and workbench.device.type == "cuda":
        total = torch.cuda.get_device_properties(workbench.device).total_memory / 1e9
        if config.limit_gb > total:
            raise ConfigError(
                "bench.vram.limit_gb",
                config.limit_gb,
                f"this GPU has {total:.1f} GB",
                "at most that, or device=cpu for a prediction",
            )


def run(workbench: Workbench, config: VramConfig) -> BenchResult:
    """Measure or predict the arms, and judge the exact adjoint against full backprop.

    An arm that fails leaves the others' results.
    """
    check(workbench, config)
    workbench.release()
    device, gpu = workbench.device, _gpu(workbench.device, config)
    requests = arm_requests(workbench, config)
    arms = {}
    for name, request in requests.items():
        arms[name] = _arm(name, request, device, gpu, config.timeout_s)
        workbench.say(f"  {name}: {arms[name].text}")
    result = judge(arms, config)
    records = {name: arm.record | {"error": arm.error} for name, arm in arms.items()}
    result.details |= {"notes": _NOTES, "predicted_for": dataclasses.asdict(gpu), "arms": records}
    known = {name: record["prediction"] for name, record in records.items()}
    result.details["curves"] = curves(requests, known, config, gpu)
    if config.find is not None:
        fits = find(requests, known, config, gpu, confirm=device.type == "cuda")
        findings(result, fits, config, workbench.say)
    if device.type != "cuda":
        result.notices.insert(
            0, f"memory is predicted, not measured: no GPU; predicted for {gpu.name}"
        )
    return result


def _gpu(device: torch.device, config: VramConfig) -> Gpu:
    if config.predict_for != "auto":
        return GPUS[config.predict_for]
    return Gpu.of(device) if device.type == "cuda" else GPUS["h100"]


def arm_requests(workbench: Workbench, config: VramConfig) -> dict[str, ArmRequest]:
    """Return what each arm computes, by its name: of the method, and of a head but the first."""
    model, requests = (
        dataclasses.replace(workbench.config.model, recompute=list(config.recompute)),
        {},
    )
    for head in dict.fromkeys(config.heads):
        for method in dict.fromkeys(config.arms):
            name = method if head == config.heads[0] else f"{method}_{head}_head"
            requests[name] = ArmRequest(
                model=model.with_ode(gradient=method),
                batch=config.batch,
                seq=config.seq,
                vocab=config.vocab,
                precision=config.precision,
                loss_chunk=config.loss_chunk if head == "chunked" else None,
                optimizer=config.optimizer,
                repeats=config.repeats,
                device=str(workbench.device),
            )
    return requests


def _arm(name: str, request: ArmRequest, device: torch.device, gpu: Gpu, timeout_s: float) -> Arm:
    start = time.perf_counter()
    found, reserved = predict(request, gpu)
    predicted = as_json(found) | {"reserved": reserved, "workspaces": workspaces(request, gpu)}
    record: dict[str, Any] = {
        "prediction": predicted,
        "prediction_seconds": time.perf_counter() - start,
    }
    if device.type != "cuda":
        return Arm(name, "predicted", predicted["peak"], {"status": "predicted", **record})
    try:
        measured = call(measure, request, timeout_s=timeout_s)
    except ChildFailed as failure:
        return Arm(name, "measured", None, {"status": "failed", **record}, error=str(failure))
    record = {**measured, **record}
    if measured["status"] == "oom":
        return Arm(name, "measured", measured["peak_bytes"], record, bound=True)
    peak = max(found["peak"] for found in measured["passes"])
    record |= {"prediction_error": predicted["peak"] / peak - 1}
    return Arm(name, "measured", peak, record)
