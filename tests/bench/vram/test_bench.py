"""The memory benchmark: what becomes of arms that are predicted, measured, out of memory, killed or
too slow.
"""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import child_jobs
from paths import ROOT
from phasebench.bench import child
from phasebench.bench.child import ChildFailed, call
from phasebench.bench.vram import arm as vram_arm
from phasebench.bench.vram import bench as vram
from phasebench.bench.vram import find as vram_find
from phasebench.bench.vram.allocator import PredictedOutOfMemory
from phasebench.bench.vram.arm import ArmRequest
from phasebench.bench.vram.gpus import GPUS, Gpu
from phasebench.config import (
    ARMS,
    FINDABLE,
    Config,
    ConfigError,
    ModelConfig,
    OdeConfig,
    VramConfig,
)
from phasebench.results.gate import BenchResult, finished, top_values

CONFIG = VramConfig(
    batch=2,
    seq=64,
    vocab=100,
    precision="fp32",
    loss_chunk=64,
    repeats=2,
    timeout_s=60.0,
    curve_steps=[],
    curve_seq=[],
)
EXACT = "adjoint_exact"
# leapfrog: a prediction takes as long as its forces are many
ODE = OdeConfig(steps=4, integrator="leapfrog")
MODEL = ModelConfig(dim=16, blocks=1, heads=2, hidden=64, ode=ODE)
PASS = {
    "optimizer": 0,
    "peak_update": 0,
    "before": 1,
    "parameters": 1,
    "gradients": 1,
    "held": 1,
    "peak_forward": 1,
    "peak_backward": 1,
    "transient": 1,
}


def measured(*peaks: int) -> dict[str, Any]:
    passes = [PASS | {"peak": peak, "reserved": 2 * peak, "seconds": 0.1} for peak in peaks]
    told = {"process_bytes": None, "process_reason": "NVML: Not Supported"}
    return {"status": "ok", "passes": passes, "device_bytes": 80 * 10**9, **told}


def oom(peak: int) -> dict[str, Any]:
    return {"status": "oom", "peak_bytes": peak, "device_bytes": 80 * 10**9}


def bench(
    config: VramConfig = CONFIG, device: str = "cpu", model: ModelConfig = MODEL
) -> BenchResult:
    said: list[str] = []
    workbench: Any = SimpleNamespace(
        config=Config(model=model), device=torch.device(device), say=said.append, release=list
    )
    result = vram.run(workbench, config)
    assert len(said) == len(config.arms) * len(config.heads) * (2 if config.find else 1)
    assert finished(result, 1.0)["notices"] == result.notices  # JSON holds all of it
    return result


def planned_call(_: Any, request: ArmRequest, timeout_s: float) -> Any:
    """Do what PLAN says: a result at once, an end without one in a real process."""
    action = child_jobs.action(request)
    if isinstance(action, str):
        return call(child_jobs.ends, action, timeout_s=timeout_s)
    return action


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the benchmark as on a GPU, with arms that do what a plan says."""

    def with_plan(plan: dict[str, Any], **changes: Any) -> BenchResult:
        monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
        monkeypatch.setenv("PLAN", json.dumps(plan))
        for module in (vram, vram_find):
            monkeypatch.setattr(module, "call", planned_call)
        monkeypatch.setattr(Gpu, "of", lambda device: GPUS["h100"])
        monkeypatch.setattr(
            torch.cuda,
            "get_device_properties",
            lambda device: SimpleNamespace(total_memory=80 * 10**9),
        )
        return bench(
            dataclasses.replace(
                CONFIG, **({"arms": [name for name in plan if name != "limited"]} | changes)
            ),
            "cuda",
        )

    return with_plan


def verdicts(result: BenchResult) -> dict[str, bool | None]:
    return {gate.name: gate.passed for gate in result.gates}


def top(result: BenchResult) -> dict[str, Any]:
    """The specification's keys, as they come to stand in results.json."""
    return top_values({"vram": finished(result, 1.0)})[0]


def test_without_a_gpu_all_is_predicted_and_says_so() -> None:
    result = bench()
    assert result.notices == ["memory is predicted, not measured: no GPU; predicted for h100"]
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
    assert found["vram_symplectic_gb"] == peaks[EXACT] > 0
    assert found["vram_full_backprop_gb"] == peaks["backprop"] < peaks["autograd"]
    assert found["vram_reduction_ratio"] == pytest.approx(peaks[EXACT] / peaks["backprop"])
    assert found["vram_reduction_pct"] == pytest.approx(100 - 100 * found["vram_reduction_ratio"])
    assert found["vram_reduction_pct"] < result.metrics["vram_reduction_vs_autograd_pct"].value


@pytest.mark.parametrize(
    ("max_gb", "min_pct", "passed"), [(7.5, 1.0, True), (1e-6, 1.0, False), (7.5, 99.9, False)]
)
def test_gates_can_pass_and_fail(max_gb: float, min_pct: float, passed: bool) -> None:
    config = dataclasses.replace(
        CONFIG,
        arms=["backprop", EXACT],
        seq=4096,
        loss_chunk=4096,
        predict_for="rtx3070",
        max_gb=max_gb,
        min_reduction_pct=min_pct,
    )  # so many tokens that workspaces matter less
    assert top(bench(config))["vram_pass"] is passed


def test_model_without_an_ode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)model=stage1: .*fix: model=stage2"):
        bench(model=dataclasses.replace(MODEL, name="stage1"))


@pytest.mark.parametrize(
    ("arms", "unmeasured", "reason"),
    [
        ([EXACT, "checkpoint"], ["vram_reduction_pct"], "no full backprop"),
        (
            ["adjoint", "backprop"],
            ["vram_symplectic_gb", "vram_reduction_pct"],
            f"arm {EXACT} is not among",
        ),
    ],
)
def test_gate_without_its_arm_is_not_measured(
    arms: list[str], unmeasured: list[str], reason: str
) -> None:
    result = bench(dataclasses.replace(CONFIG, arms=arms))
    gates = [gate for gate in result.gates if gate.passed is None]
    assert [gate.name for gate in gates] == unmeasured
    assert all(reason in str(gate.reason) for gate in gates)
    assert top(result)["vram_pass"] is None


def test_measured_arms_carry_prediction_and_raw_repeats(on_gpu: Any) -> None:
    plan = {
        "autograd": measured(9 * 10**9),
        "backprop": measured(4 * 10**9),
        "checkpoint": measured(2 * 10**9),
    }
    result = on_gpu(plan | {EXACT: measured(10**9, 11 * 10**8)})
    assert verdicts(result) == {"vram_symplectic_gb": True, "vram_reduction_pct": True}
    assert {gate.kind for gate in result.gates} == {"measured"}
    assert result.notices == []
    assert result.metrics[f"{EXACT}_peak_gb"].value == 1.1  # the most of all repeats
    assert result.metrics[f"{EXACT}_reserved_gb"].value == 2.2
    assert result.metrics[f"{EXACT}_process_gb"].reason == "NVML: Not Supported"
    assert result.metrics[f"{EXACT}_predicted_gb"].kind == "predicted"
    assert top(result)["vram_reduction_pct"] == pytest.approx(100 * (1 - 1.1 / 4))
    record = result.details["arms"][EXACT]
    assert [found["peak"] for found in record["passes"]] == [10**9, 11 * 10**8]
    assert record["prediction"]["workspaces"] == 96 * 2**20
    assert record["prediction_error"] == pytest.approx(record["prediction"]["peak"] / 1.1e9 - 1)


def test_killed_slow_and_broken_arms_leave_the_others(on_gpu: Any) -> None:
    plan = {"autograd": "kill", "backprop": "hang", "checkpoint": "raise", EXACT: measured(10**9)}
    result = on_gpu(plan, timeout_s=4.0)
    errors = {name: record["error"] for name, record in result.details["arms"].items()}
    assert errors == {
        "autograd": "killed by SIGKILL: the host's memory may have run out",
        "backprop": "took more than 4 s and was stopped",
        "checkpoint": "ValueError: broken arm",
        EXACT: None,
    }
    assert verdicts(result) == {"vram_symplectic_gb": True, "vram_reduction_pct": None}
    assert "arm autograd failed: killed" in str(result.gates[1].reason)
    assert len(result.notices) == 3
    assert result.metrics["backprop_peak_gb"].value is None
    assert result.metrics["backprop_predicted_gb"].value


def test_failed_backprop_is_no_reason_to_judge_by_the_worse_one(on_gpu: Any) -> None:
    result = on_gpu(
        {"autograd": measured(10**11), "backprop": "raise", EXACT: measured(10**9)},
        arms=["autograd", "backprop", EXACT],
    )
    assert verdicts(result)["vram_reduction_pct"] is None
    assert result.metrics["vram_reduction_vs_autograd_pct"].value == pytest.approx(99.0)


@pytest.mark.parametrize(
    ("full", "adjoint", "expected"),
    [
        (
            oom(10 * 10**9),
            measured(10**9),
            {"vram_symplectic_gb": True, "vram_reduction_pct": True},
        ),
        (oom(2 * 10**9), measured(10**9), {"vram_symplectic_gb": True, "vram_reduction_pct": None}),
        (measured(10**10), oom(10**9), {"vram_symplectic_gb": None, "vram_reduction_pct": None}),
        (
            measured(10**10),
            oom(8 * 10**9),
            {"vram_symplectic_gb": False, "vram_reduction_pct": None},
        ),
    ],
)
def test_out_of_memory_is_a_lower_bound(
    on_gpu: Any, full: Any, adjoint: Any, expected: dict[str, bool | None]
) -> None:
    result = on_gpu({"backprop": full, EXACT: adjoint}, arms=["backprop", EXACT])
    assert verdicts(result) == expected
    (notice,) = result.notices
    assert "at least" in notice
    failing = "backprop" if full["status"] == "oom" else EXACT
    assert result.metrics[f"{failing}_peak_gb"].bound == "out of memory"
    assert result.metrics[f"{failing}_held_gb"].reason == "out of memory before the pass ended"


def request(gradient: str = "adjoint", device: str = "cuda") -> ArmRequest:
    model = MODEL.with_ode(gradient=gradient)
    return ArmRequest(model, 2, 64, 100, "fp32", 64, "none", repeats=2, device=device)


def test_child_reports_out_of_memory_as_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(vram_arm, "_prepare", full)
    monkeypatch.setattr(vram_arm, "CudaMeter", lambda device: SimpleNamespace(peak=lambda: 123))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=456)
    )
    assert vram_arm.measure(request()) == {"status": "oom", "peak_bytes": 123, "device_bytes": 456}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_real_child_without_a_gpu_fails_with_a_reason() -> None:
    with pytest.raises(ChildFailed, match=r"CUDA|NVIDIA"):
        call(vram_arm.measure, request(), timeout_s=120)


def test_every_head_has_its_arms_and_the_first_is_judged() -> None:
    result = bench(
        dataclasses.replace(
            CONFIG, arms=["backprop", EXACT], heads=["plain", "chunked"], vocab=2000
        )
    )
    arms = result.details["arms"]
    assert list(arms) == ["backprop", EXACT, "backprop_chunked_head", f"{EXACT}_chunked_head"]
    assert (
        result.metrics[f"{EXACT}_held_gb"].value
        > result.metrics[f"{EXACT}_chunked_head_held_gb"].value
    )
    assert top(result)["vram_symplectic_gb"] == result.metrics[f"{EXACT}_peak_gb"].value


def test_optimizer_s_state_is_broken_out() -> None:
    found = {}
    for optimizer in ("none", "adamw"):
        metrics = bench(dataclasses.replace(CONFIG, arms=[EXACT], optimizer=optimizer)).metrics
        found[optimizer] = {
            key: metrics[f"{EXACT}_{key}_gb"].value for key in ("parameters", "optimizer", "peak")
        }
    assert found["none"]["optimizer"] == 0.0
    assert found["adamw"]["optimizer"] == pytest.approx(2 * found["adamw"]["parameters"], rel=0.01)
    assert found["adamw"]["peak"] > found["none"]["peak"] + found["adamw"]["optimizer"]


def test_curves_have_the_asked_points_and_the_own_one() -> None:
    result = bench(
        dataclasses.replace(
            CONFIG, arms=["backprop", EXACT], curve_steps=[1, 4, 8], curve_seq=[128]
        )
    )
    curves = result.details["curves"]
    assert {axis: curve["own"] for axis, curve in curves.items()} == {"steps": 4, "seq": 64}
    steps = {name: dict(points) for name, points in curves["steps"]["points"].items()}
    assert list(steps["backprop"]) == [1, 4, 8]
    assert steps["backprop"][4] == result.details["arms"]["backprop"]["prediction"]["peak"]
    assert len(set(steps[EXACT].values())) == 1
    growth = [
        steps["backprop"][8] - steps["backprop"][4],
        steps["backprop"][4] - steps["backprop"][1],
    ]
    assert growth[0] / 4 == pytest.approx(growth[1] / 3, rel=0.2)
    assert growth[0] > 0
    assert [x for x, _ in curves["seq"]["points"][EXACT]] == [64, 128]


def test_other_gpus_have_other_workspaces() -> None:
    found = {
        gpu: bench(dataclasses.replace(CONFIG, arms=[EXACT], predict_for=gpu))
        for gpu in ("h100", "rtx3070")
    }
    records = {gpu: result.details["arms"][EXACT]["prediction"] for gpu, result in found.items()}
    assert records["h100"]["workspaces"] == 96 * 2**20 > 3 * records["rtx3070"]["workspaces"]
    assert "predicted for rtx3070" in found["rtx3070"].notices[0]


def test_only_the_fused_adjoint_has_a_stream_of_its_own() -> None:
    def found(gradient: str, hidden: int) -> int:
        asked = request(gradient)
        model = dataclasses.replace(asked.model, hidden=hidden)
        return vram_arm.workspaces(dataclasses.replace(asked, model=model), GPUS["h100"]) // 2**20

    assert (
        found(EXACT, 64),
        found(EXACT, 60),
        found("adjoint_exact_eager", 64),
        found("backprop", 64),
    ) == (
        96,
        64,
        64,
        64,
    )


# what fits


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "usable_cores", lambda: 1)
    monkeypatch.setattr(
        vram_find,
        "GRIDS",
        {"seq": range(64, 8192, 64), "batch": range(1, 65), "steps": range(1, 9)},
    )


LIMIT = 0.15  # GB; the fused adjoint's workspaces are 0.1
LIMITED = dataclasses.replace(
    CONFIG, arms=["backprop", EXACT], loss_chunk=10**5, limit_gb=LIMIT, find="seq"
)


@pytest.mark.parametrize("axis", FINDABLE)
@pytest.mark.usefixtures("one_process")
def test_what_is_found_fits_and_the_next_value_does_not(axis: str) -> None:
    config = dataclasses.replace(LIMITED, arms=["backprop"], find=axis)
    result = bench(config)
    fits = result.details["fits"]
    best = fits["arms"]["backprop"]["predicted"]
    metric = result.metrics[f"backprop_fits_{axis}"]
    assert (metric.value, metric.kind) == (best, "predicted")
    assert result.metrics[f"backprop_fits_{axis}_confirmed"].reason == "needs a GPU"
    plain = request("backprop")
    asked = dataclasses.replace(
        plain,
        loss_chunk=10**5,
        limit_bytes=int(vram_find.USED * int(1e9 * LIMIT)),
        model=dataclasses.replace(plain.model, recompute=config.recompute),
    )
    grid = vram_find.GRIDS[axis]
    if fits["arms"]["backprop"]["capped"]:
        assert best == grid[-1]
        assert str(metric.bound).startswith("the search ends at")
        return
    following = grid[grid.index(best) + 1]
    vram_arm.predict(asked.at(axis, best), GPUS["h100"])
    with pytest.raises(PredictedOutOfMemory):
        vram_arm.predict(asked.at(axis, following), GPUS["h100"])


@pytest.mark.usefixtures("one_process")
def test_nothing_fits_into_less_than_the_parameters() -> None:
    result = bench(dataclasses.replace(LIMITED, limit_gb=0.05))
    assert result.metrics[f"{EXACT}_fits_seq"].value is None
    assert "not even 64 fits into 0.05 GB" in str(result.metrics[f"{EXACT}_fits_seq"].reason)


@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=100)
def test_the_search_finds_the_largest_whatever_its_guess(best: int, guess: int, cap: int) -> None:
    asked: list[int] = []

    def fits(k: int) -> bool:
        asked.append(k)
        return k <= best

    assert vram_find.largest(fits, min(guess, cap), cap) == min(best, cap)
    assert len(asked) == len(set(asked)) <= 25
    assert all(1 <= k <= cap for k in asked)


def test_arms_are_searched_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(
        LIMITED, arms=["backprop", "checkpoint"], find="batch", limit_gb=0.075
    )
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(child, "usable_cores", lambda n=cores: n)
        found.append(bench(config).details["fits"])
    assert found[0] == found[1]


@pytest.mark.usefixtures("one_process")
def test_a_gpu_confirms_or_steps_down(on_gpu: Any) -> None:
    limited: dict[str, Any] = {str(n): oom(2 * 10**8) for n in vram_find.GRIDS["seq"]}
    fitting = bench(LIMITED).details["fits"]["arms"][EXACT]["predicted"]
    below = max(n for n in vram_find.GRIDS["seq"] if n <= 0.98 * fitting)
    plan = {EXACT: measured(10**8), "limited": limited | {str(below): measured(1)}}
    result = on_gpu(plan, loss_chunk=10**5, limit_gb=LIMIT, find="seq")
    found = result.details["fits"]["arms"][EXACT]
    assert [(run["value"], run["status"]) for run in found["runs"]] == [
        (fitting, "oom"),
        (below, "ok"),
    ]
    assert result.metrics[f"{EXACT}_fits_seq"].value == fitting
    assert result.metrics[f"{EXACT}_fits_seq_confirmed"].value == below
    assert f"{EXACT}: seq={fitting} was predicted to fit, but {below} did: oom" in result.notices
    none = on_gpu(
        plan | {"limited": limited}, loss_chunk=10**5, limit_gb=LIMIT, find="seq"
    ).metrics[f"{EXACT}_fits_seq_confirmed"]
    assert (none.value, none.reason) == (None, "no smaller value that was tried fits either")


@pytest.mark.usefixtures("one_process")
def test_a_killed_confirmation_is_reported(on_gpu: Any) -> None:
    limited = {str(n): "kill" for n in vram_find.GRIDS["seq"]}
    result = on_gpu(
        {EXACT: measured(10**8), "limited": limited}, loss_chunk=10**5, limit_gb=LIMIT, find="seq"
    )
    metric = result.metrics[f"{EXACT}_fits_seq_confirmed"]
    assert (metric.value, str(metric.reason)[:17]) == (None, "killed by SIGKILL")


def test_a_limit_above_the_gpu_s_memory_is_refused(on_gpu: Any) -> None:
    with pytest.raises(ConfigError, match=r"bench.vram.limit_gb=90.*80.0 GB"):
        on_gpu({EXACT: measured(1)}, limit_gb=90.0, find="seq")


@pytest.mark.parametrize(
    ("values", "fix"), [({"find": "seq"}, "limit_gb=8"), ({"limit_gb": 8.0}, "find=seq")]
)
def test_half_a_question_is_refused(values: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        VramConfig(**values)


LARGER = ModelConfig(dim=512, blocks=2, heads=8, hidden=2048, ode=OdeConfig(steps=10))


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["none", "adamw"])
@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_prediction_is_within_five_percent_of_a_measurement(precision: str, optimizer: str) -> None:
    config = VramConfig(
        seq=2048,
        vocab=50257,
        precision=precision,
        repeats=2,
        optimizer=optimizer,
        heads=["chunked", "plain"],
        curve_steps=[],
        curve_seq=[],
    )
    result = bench(config, "cuda", LARGER)
    assert result.notices == []
    errors = {name: record["prediction_error"] for name, record in result.details["arms"].items()}
    assert len(errors) == 2 * len(ARMS)
    assert {name: error for name, error in errors.items() if abs(error) > 0.05} == {}
    assert top(result)["vram_pass"] is not None


@pytest.mark.gpu
def test_what_is_predicted_to_fit_is_confirmed_or_the_next_smaller() -> None:
    config = VramConfig(
        seq=1024,
        vocab=50257,
        precision="tf32",
        repeats=1,
        loss_chunk=256,
        limit_gb=4.0,
        find="seq",
        arms=["backprop", "checkpoint", EXACT],
        curve_steps=[],
        curve_seq=[],
    )
    result = bench(config, "cuda", LARGER)
    for name, found in result.details["fits"]["arms"].items():
        assert found["confirmed"] is not None, name
        assert found["confirmed"] >= 0.9 * found["predicted"], (name, found["runs"])
