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

import torch

from phasebench.bench.child import ChildFailed, call
from phasebench.bench.vram.arm import ArmRequest, as_json, measure, workspaces
from phasebench.bench.vram.find import Prediction, curves, find, predictions, timed
from phasebench.bench.vram.gpus import GPUS, Gpu
from phasebench.bench.vram.verdict import Arm, judge
from phasebench.bench.workbench import Workbench, require_ode, require_reference, untrained
from phasebench.config import ConfigError, VramConfig
from phasebench.results.gate import BenchResult
from phasebench.results.progress import track

REFERENCE = "reference"
_NOTES = {
    "weights": "random: memory depends on sizes only",
    "allocated": "torch's caching allocator: parameters, tokens, workspaces (cuBLAS), states, "
    "gradients, optimizer",
    "process": "as NVML counts it: also the CUDA context, loaded kernels and the allocator's cache",
    "predicted": "live tensors, cuBLAS workspaces and partial sums of reductions, in blocks of a "
    "simulated allocator",
}


def check(workbench: Workbench, config: VramConfig) -> None:
    """Raise `ConfigError` for a model without an ODE, a reference that cannot be measured, or a
    limit above this GPU's memory.
    """
    require_ode(workbench, config)
    require_reference(config.reference, "vram", config.seq)
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
    on_gpu = workbench.device.type == "cuda"
    if config.predict_for != "auto":
        gpu = GPUS[config.predict_for]
    else:
        gpu = Gpu.of(workbench.device) if on_gpu else GPUS["h100"]
    requests = arm_requests(workbench, config)
    predicted = predictions(requests, config, gpu)
    arms = {}
    for name, request in track(requests.items(), "arms", len(requests)):
        prediction = predicted[name, "", 0]
        arms[name] = _arm(name, request, gpu, prediction, config.timeout_s if on_gpu else None)
        workbench.say(f"  {name}: {arms[name].text}")
    if config.reference:
        request = next(iter(requests.values()))
        request = dataclasses.replace(request, model=untrained(config.reference))
        prediction, timeout_s = timed(request, gpu), config.timeout_s if on_gpu else None
        arms[REFERENCE] = _arm(REFERENCE, request, gpu, prediction, timeout_s)
        workbench.say(f"  {REFERENCE}: {arms[REFERENCE].text}")
    result = judge(arms, config)
    result.details |= {
        "notes": _NOTES,
        "predicted_for": dataclasses.asdict(gpu),
        "arms": {name: arm.record | {"error": arm.error} for name, arm in arms.items()},
        "curves": curves(requests, predicted, config),
    }
    if config.find is not None:
        own = {name: arms[name] for name in requests}
        find(result, own, config, gpu, workbench.say, confirm=on_gpu)
    if not on_gpu:
        notice = f"memory is predicted, not measured: no GPU; predicted for {gpu.name}"
        result.notices.insert(0, notice)
    return result


def arm_requests(workbench: Workbench, config: VramConfig) -> dict[str, ArmRequest]:
    """Return what each arm computes, by its name: of the method, and of a head but the first."""
    model = dataclasses.replace(workbench.config.model, recompute=list(config.recompute))
    return {
        method if head == config.heads[0] else f"{method}_{head}_head": ArmRequest(
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
        for head in dict.fromkeys(config.heads)
        for method in dict.fromkeys(config.arms)
    }


def _arm(
    name: str, request: ArmRequest, gpu: Gpu, prediction: Prediction, timeout_s: float | None
) -> Arm:
    """Return a predicted arm, measured too where it gets a time for that."""
    sizes = {"reserved": prediction.reserved, "workspaces": workspaces(request, gpu)}
    predicted = as_json(prediction.step) | sizes
    record = {"prediction": predicted, "prediction_seconds": prediction.seconds}
    if timeout_s is None:
        record["status"] = "predicted"
        return Arm(name, request, "predicted", predicted["peak"], record)
    try:
        record |= call(measure, request, timeout_s=timeout_s)
    except ChildFailed as failure:
        record["status"] = "failed"
        return Arm(name, request, "measured", None, record, error=str(failure))
    if record["status"] == "oom":
        return Arm(name, request, "measured", record["peak_bytes"], record, bound=True)
    peak = max(step["peak"] for step in record["passes"])
    record["prediction_error"] = predicted["peak"] / peak - 1
    return Arm(name, request, "measured", peak, record)
