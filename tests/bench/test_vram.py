"""The memory benchmark: what becomes of arms that are predicted, measured, out of memory, killed or too slow."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from phasebench.bench import vram, vram_arm
from phasebench.bench.vram_arm import ArmRequest
from phasebench.config import ARMS, Config, ConfigError, ModelConfig, OdeConfig, VramConfig
from phasebench.entries import finished, seed_values
from phasebench.measure.child import ChildFailed, run_child
from phasebench.results import BenchResult

CONFIG = VramConfig(batch=2, seq=64, vocab=100, precision="fp32", loss_chunk=64, repeats=2, timeout_s=60.0)
MODEL = ModelConfig(dim=16, blocks=1, heads=2, hidden=64, ode=OdeConfig(steps=4))
PASS = {"before": 1, "parameters": 1, "gradients": 1, "held": 1, "peak_forward": 1, "peak_backward": 1, "transient": 1}

# stands for the child: does what PLAN says for the request's gradient method
SCRIPT = """
import json, os, signal, sys, time
asked = json.load(open(sys.argv[1]))
action = PLAN[asked["model"]["ode"]["gradient"]]
if action == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if action == "hang":
    time.sleep(60)
if action == "raise":
    raise ValueError("broken arm")
json.dump(action, open(sys.argv[2], "w"))
"""


def measured(*peaks: int) -> dict[str, Any]:
    passes = [PASS | {"peak": peak, "reserved": 2 * peak, "seconds": 0.1} for peak in peaks]
    told = {"process_bytes": None, "process_reason": "NVML: Not Supported"}
    return {"status": "ok", "passes": passes, "device_bytes": 80 * 10**9, **told}


def oom(peak: int) -> dict[str, Any]:
    return {"status": "oom", "peak_bytes": peak, "device_bytes": 80 * 10**9}


def bench(config: VramConfig = CONFIG, device: str = "cpu", model: ModelConfig = MODEL) -> BenchResult:
    said: list[str] = []
    workbench: Any = SimpleNamespace(
        config=Config(model=model), device=torch.device(device), say=said.append, release=list
    )
    result = vram.run(workbench, config)
    assert len(said) == len(config.arms)
    assert finished(result, 1.0)["notices"] == result.notices  # JSON holds all of it
    return result


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the benchmark as on a GPU, with arms that do what a plan says."""

    def with_plan(plan: dict[str, Any], **changes: Any) -> BenchResult:
        script = tmp_path / "arm.py"
        script.write_text(f"PLAN = {plan!r}\n{SCRIPT}", encoding="utf-8")
        monkeypatch.setattr(vram, "ARM_COMMAND", [sys.executable, str(script)])
        return bench(dataclasses.replace(CONFIG, **({"arms": list(plan)} | changes)), "cuda")

    return with_plan


def verdicts(result: BenchResult) -> dict[str, bool | None]:
    return {gate.name: gate.passed for gate in result.gates}


def top(result: BenchResult) -> dict[str, Any]:
    """The seed's keys, as they come to stand in results.json."""
    return seed_values("vram", result, finished(result, 1.0))[0]


def test_without_a_gpu_all_is_predicted_and_says_so() -> None:
    result = bench()
    assert result.notices == ["memory is predicted, not measured: no GPU"]
    assert {gate.kind for gate in result.gates} == {"predicted"}
    for arm in ARMS:
        in_gb, in_gib = (result.metrics[f"{arm}_peak_{unit}"] for unit in ("gb", "gib"))
        assert in_gb.kind == in_gib.kind == "predicted"
        assert in_gb.value == pytest.approx(float(in_gib.value or 0) * 1.073741824)
        for key in ("reserved", "process"):
            metric = result.metrics[f"{arm}_{key}_gb"]
            assert metric.value is None
            assert "GPU" in str(metric.reason)
    peaks = {arm: result.metrics[f"{arm}_peak_gb"].value for arm in ARMS}
    found = top(result)
    assert found["vram_symplectic_gb"] == peaks["adjoint"] > 0
    assert found["vram_full_backprop_gb"] == peaks["backprop"] < peaks["autograd"]
    assert found["vram_reduction_ratio"] == pytest.approx(peaks["backprop"] / peaks["adjoint"])
    assert found["vram_reduction_pct"] == pytest.approx(100 - 100 / found["vram_reduction_ratio"])
    assert found["vram_reduction_pct"] < result.metrics["vram_reduction_vs_autograd_pct"].value


@pytest.mark.parametrize(("max_gb", "min_pct", "passed"), [(7.5, 1.0, True), (1e-6, 1.0, False), (7.5, 99.9, False)])
def test_gates_can_pass_and_fail(max_gb: float, min_pct: float, passed: bool) -> None:
    config = dataclasses.replace(CONFIG, arms=["backprop", "adjoint"], max_gb=max_gb, min_reduction_pct=min_pct)
    assert top(bench(config))["vram_pass"] is passed


def test_model_without_an_ode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)model=stage1: .*fix: model=stage2"):
        bench(model=dataclasses.replace(MODEL, name="stage1"))


@pytest.mark.parametrize(
    ("arms", "unmeasured", "reason"),
    [
        (["adjoint", "checkpoint"], ["vram_reduction_pct"], "no full backprop"),
        (["backprop"], ["vram_symplectic_gb", "vram_reduction_pct"], "arm adjoint is not among bench.vram.arms"),
    ],
)
def test_gate_without_its_arm_is_not_measured(arms: list[str], unmeasured: list[str], reason: str) -> None:
    result = bench(dataclasses.replace(CONFIG, arms=arms))
    gates = [gate for gate in result.gates if gate.passed is None]
    assert [gate.name for gate in gates] == unmeasured
    assert all(reason in str(gate.reason) for gate in gates)
    assert top(result)["vram_pass"] is None


def test_measured_arms_carry_prediction_and_raw_repeats(on_gpu: Any) -> None:
    plan = {"autograd": measured(9 * 10**9), "backprop": measured(4 * 10**9), "checkpoint": measured(2 * 10**9)}
    result = on_gpu(plan | {"adjoint": measured(10**9, 11 * 10**8)})
    assert verdicts(result) == {"vram_symplectic_gb": True, "vram_reduction_pct": True}
    assert {gate.kind for gate in result.gates} == {"measured"}
    assert result.notices == []
    assert result.metrics["adjoint_peak_gb"].value == 1.1  # the most of all repeats
    assert result.metrics["adjoint_reserved_gb"].value == 2.2
    assert result.metrics["adjoint_process_gb"].reason == "NVML: Not Supported"
    assert result.metrics["adjoint_predicted_gb"].kind == "predicted"
    assert top(result)["vram_reduction_pct"] == pytest.approx(100 * (1 - 1.1 / 4))
    record = result.details["arms"]["adjoint"]
    assert [found["peak"] for found in record["passes"]] == [10**9, 11 * 10**8]
    assert record["workspaces"] == 1 - record["prediction"]["before"]
    assert record["prediction_error"] == pytest.approx(record["prediction"]["peak"] / 1.1e9 - 1)


def test_killed_slow_and_broken_arms_leave_the_others(on_gpu: Any) -> None:
    plan = {"autograd": "kill", "backprop": "hang", "checkpoint": "raise", "adjoint": measured(10**9)}
    result = on_gpu(plan, timeout_s=3.0)
    errors = {name: record["error"] for name, record in result.details["arms"].items()}
    assert errors == {
        "autograd": "killed by SIGKILL: the host's memory may have run out",
        "backprop": "took more than 3 s and was stopped",
        "checkpoint": "exit code 1: ValueError: broken arm",
        "adjoint": None,
    }
    assert verdicts(result) == {"vram_symplectic_gb": True, "vram_reduction_pct": None}
    assert "arm autograd failed: killed" in str(result.gates[1].reason)
    assert len(result.notices) == 3
    assert result.metrics["backprop_peak_gb"].value is None
    assert result.metrics["backprop_predicted_gb"].value


def test_failed_backprop_is_no_reason_to_judge_by_the_worse_one(on_gpu: Any) -> None:
    result = on_gpu({"autograd": measured(10**11), "backprop": "raise", "adjoint": measured(10**9)},
                    arms=["autograd", "backprop", "adjoint"])  # fmt: skip
    assert verdicts(result)["vram_reduction_pct"] is None
    assert result.metrics["vram_reduction_vs_autograd_pct"].value == pytest.approx(99.0)


@pytest.mark.parametrize(
    ("full", "adjoint", "expected"),
    [
        (oom(10 * 10**9), measured(10**9), {"vram_symplectic_gb": True, "vram_reduction_pct": True}),
        (oom(2 * 10**9), measured(10**9), {"vram_symplectic_gb": True, "vram_reduction_pct": None}),
        (measured(10**10), oom(10**9), {"vram_symplectic_gb": None, "vram_reduction_pct": None}),
        (measured(10**10), oom(8 * 10**9), {"vram_symplectic_gb": False, "vram_reduction_pct": None}),
    ],
)
def test_out_of_memory_is_a_lower_bound(on_gpu: Any, full: Any, adjoint: Any, expected: dict[str, bool | None]) -> None:
    result = on_gpu({"backprop": full, "adjoint": adjoint}, arms=["backprop", "adjoint"])
    assert verdicts(result) == expected
    (notice,) = result.notices
    assert "at least" in notice
    failing = "backprop" if full["status"] == "oom" else "adjoint"
    assert "at least: out of memory" in result.metrics[f"{failing}_peak_gb"].unit
    assert result.metrics[f"{failing}_held_gb"].reason == "out of memory before the pass ended"


def request(gradient: str = "adjoint", device: str = "cuda") -> ArmRequest:
    model = dataclasses.replace(MODEL, ode=OdeConfig(steps=4, gradient=gradient))
    return ArmRequest(model, 2, 64, 100, "fp32", 64, repeats=2, device=device)


def test_request_survives_json() -> None:
    asked = request()
    assert ArmRequest.from_json(json.loads(json.dumps(dataclasses.asdict(asked)))) == asked


def test_child_reports_out_of_memory_as_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(vram_arm, "_prepare", full)
    monkeypatch.setattr(vram_arm, "CudaMeter", lambda device: SimpleNamespace(peak=lambda: 123))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=456))
    assert vram_arm.measure(request()) == {"status": "oom", "peak_bytes": 123, "device_bytes": 456}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_real_child_without_a_gpu_fails_with_a_reason() -> None:
    with pytest.raises(ChildFailed, match=r"exit code 1: .*(CUDA|NVIDIA)"):
        run_child(vram.ARM_COMMAND, dataclasses.asdict(request()), 120)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_prediction_is_close_to_a_measurement(precision: str) -> None:
    model = ModelConfig(dim=512, blocks=2, heads=8, hidden=2048, ode=OdeConfig(steps=10))
    result = bench(VramConfig(seq=2048, vocab=50257, precision=precision, repeats=2), "cuda", model)
    assert result.notices == []
    for arm in ARMS:
        record = result.details["arms"][arm]
        peak, predicted = (found["peak"] for found in (record["passes"][-1], record["prediction"]))
        assert 0 <= record["workspaces"] < 150e6  # a fixed cost of cuBLAS, which no tensor's size tells
        assert predicted == pytest.approx(peak - record["workspaces"], rel=0.02), arm
    assert top(result)["vram_pass"] is not None
