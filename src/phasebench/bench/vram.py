"""Peak memory of a training step (forward + backward) with each gradient method: the same model, head and loss in all.

On a GPU every arm is measured in a process of its own and carries its prediction beside the measurement; without one
the peaks are predicted from the sizes of all tensors (`phasebench.measure.predict`), and labelled so.  The adjoint is
compared with the smaller of the two full backprops.  GB = 1e9 bytes, GiB = 2^30 bytes.

An arm that runs out of memory has a result: what it had allocated by then, a lower bound of its peak.  If that decides
a gate it is decided; if not, the gate could not be measured.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import torch

from phasebench.bench.vram_arm import ArmRequest, as_json, predict
from phasebench.bench.vram_verdict import Arm, judge
from phasebench.config import VramConfig
from phasebench.measure.child import ChildFailed, run_child
from phasebench.results import BenchResult
from phasebench.workbench import Workbench, require_ode

ARM_COMMAND = [sys.executable, "-m", "phasebench.bench.vram_arm"]

_PREDICTED = "memory is predicted, not measured: no GPU"
_NOTES = {
    "weights": "random: memory depends on sizes only",
    "allocated": "torch's caching allocator: parameters, tokens, workspaces (cuBLAS), states, gradients; no optimizer",
    "workspaces": "bytes live before a measured pass that are no tensor of it: cuBLAS keeps tens of MB a thread",
    "process": "as NVML counts it: also the CUDA context, loaded kernels and the allocator's cache",
    "predicted": "live tensors at the allocator's 512-byte blocks, without workspaces; attention as a fused kernel",
}


def check(workbench: Workbench, config: VramConfig) -> None:
    """Raise `ConfigError` for a model without an ODE."""
    require_ode(workbench.config)


def run(workbench: Workbench, config: VramConfig) -> BenchResult:
    """Measure or predict the arms, one after the other, and judge the adjoint against full backprop.

    An arm that fails leaves the others' results.
    """
    check(workbench, config)
    workbench.release()
    arms = {}
    for name in dict.fromkeys(config.arms):
        arms[name] = _arm(name, _request(workbench, config, name), workbench.device, config.timeout_s)
        workbench.say(f"  {name}: {arms[name].text}")
    result = judge(arms, config)
    records = {name: arm.record | {"error": arm.error} for name, arm in arms.items()}
    result.details |= {"notes": _NOTES, "arms": records}
    if workbench.device.type != "cuda":
        result.notices.insert(0, _PREDICTED)
    return result


def _request(workbench: Workbench, config: VramConfig, gradient: str) -> ArmRequest:
    model = workbench.config.model
    return ArmRequest(
        model=dataclasses.replace(model, ode=dataclasses.replace(model.ode, gradient=gradient)),
        batch=config.batch, seq=config.seq, vocab=config.vocab, precision=config.precision,
        loss_chunk=config.loss_chunk, repeats=config.repeats, device=str(workbench.device),
    )  # fmt: skip


def _arm(name: str, request: ArmRequest, device: torch.device, timeout_s: float) -> Arm:
    start = time.perf_counter()
    predicted = as_json(predict(request))
    record: dict[str, Any] = {"prediction": predicted, "prediction_seconds": time.perf_counter() - start}
    if device.type != "cuda":
        return Arm(name, "predicted", predicted["peak"], {"status": "predicted", **record})
    try:
        measured = run_child(ARM_COMMAND, dataclasses.asdict(request), timeout_s)
    except ChildFailed as failure:
        return Arm(name, "measured", None, {"status": "failed", **record}, error=str(failure))
    record = {**measured, **record}
    if measured["status"] == "oom":
        return Arm(name, "measured", measured["peak_bytes"], record, bound=True)
    peak = max(found["peak"] for found in measured["passes"])
    workspaces = measured["passes"][-1]["before"] - predicted["before"]
    record |= {"workspaces": workspaces, "prediction_error": predicted["peak"] / peak - 1}
    return Arm(name, "measured", peak, record)
