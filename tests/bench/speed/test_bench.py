"""What bench=speed measures and reports; how fast it was decides nothing here."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from phasebench.bench.speed import bench as speed
from phasebench.bench.speed import peers
from phasebench.config import Config, ConfigError, ModelConfig, OdeConfig, SpeedConfig
from phasebench.results.gate import BenchResult, finished
from problems import perceptron_flow

SMALL = SpeedConfig(batch=1, seq=8, vocab=30, precisions=["fp32"], repeats=2, warmup=1, peers=False)
LIMITS = {
    "max_ms": 1e-9,
    "min_ceiling_fraction": 1e-9,
    "min_over_autograd": 1e-9,
    "min_stage1_rate": 1e9,
}
MODEL = ModelConfig(
    dim=8, heads=2, hidden=16, blocks=2, ode=OdeConfig(steps=3, dt=0.1, integrator="leapfrog")
)


def measured(config: SpeedConfig = SMALL) -> BenchResult:
    tools = {"device": torch.device("cpu"), "release": list}
    workbench: Any = SimpleNamespace(config=Config(model=MODEL), **tools)
    result = speed.run(workbench, config)
    assert finished(result, 1.0)["notices"] == result.notices  # JSON holds all of it
    return result


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return measured(dataclasses.replace(SMALL, precisions=["fp32", "bf16"]))


def test_every_method_is_timed_in_the_stack_and_in_training(result: BenchResult) -> None:
    arms = [(row["what"], row["arm"], row["precision"]) for row in result.details["rows"]]
    stack = [("ode stack", m, precision) for precision in ("fp32", "bf16") for m in SMALL.methods]
    assert arms == stack + [("training", m, "fp32") for m in (*SMALL.methods, "stage1")]
    for row in result.details["rows"]:
        assert len(row["seconds"]) == SMALL.repeats
        assert row["tokens_per_s"] == pytest.approx(8e3 / row["median_ms"])
        assert row["peak_gb"] is None
        assert (row["ceiling_fraction"] is not None) == (row["what"] == "ode stack")


def test_a_ratio_is_that_of_its_rows(result: BenchResult) -> None:
    at = {
        (row["what"], row["arm"], row["precision"]): row["median_ms"]
        for row in result.details["rows"]
    }
    ratio = at["ode stack", "autograd", "bf16"] / at["ode stack", "adjoint_exact", "bf16"]
    assert result.metrics["autograd_bf16_over_exact"].value == pytest.approx(ratio)
    rate = at["training", "stage1", "fp32"] / at["training", "adjoint_exact", "fp32"]
    assert result.metrics["steps_per_s_over_stage1"].value == pytest.approx(rate)


def test_a_peak_without_a_gpu_is_null_with_a_reason(result: BenchResult) -> None:
    found = result.metrics["training_peak_over_stage1"]
    assert (found.value, found.reason) == (None, "adjoint_exact: no peak_gb without a GPU")


def test_an_arm_that_runs_out_of_memory_has_that_reason() -> None:
    def make() -> speed.Step:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    arm = speed.Arm("training", "backprop", "fp32")
    found = speed.measure({arm: make}, SMALL, 0, torch.device("cuda"))
    assert found == {arm: speed.Measured(None, None, "out of memory: CUDA out of memory")}


def test_on_a_cpu_a_notice_says_that_the_kernels_are_not_used(result: BenchResult) -> None:
    assert result.notices == [
        "adjoint_exact ran eagerly: the fused kernels of adjoint_exact need a GPU, not cpu"
    ]


def test_there_are_gates_only_where_limits_are_given(result: BenchResult) -> None:
    assert result.gates == []
    assert {g.name: g.passed for g in measured(dataclasses.replace(SMALL, **LIMITS)).gates} == {
        "ode_stack_median_ms": False,
        "ode_stack_ceiling_fraction": True,
        "autograd_fp32_over_exact": True,
        "steps_per_s_over_stage1": False,
    }


def test_kind_1_one_timed_round() -> None:
    found = measured(dataclasses.replace(SMALL, methods=["adjoint_exact"], repeats=1, max_ms=1e9))
    assert [(g.passed, g.reason) for g in found.gates] == [(None, "timed rounds: 1, needed 2")]


def test_a_gate_without_its_arm_is_not_measured() -> None:
    found = measured(
        dataclasses.replace(SMALL, methods=["backprop"], max_ms=1.0, min_over_torchdiffeq=12.0)
    )
    assert [(g.passed, g.reason) for g in found.gates] == [
        (None, "adjoint_exact is not among the arms of bench.speed"),
        (None, "torchdiffeq_odeint_adjoint is not among the arms of bench.speed"),
    ]


def test_needed_flops_are_eight_products_a_kick() -> None:
    assert speed._needed_flops(MODEL, SMALL) == 2 * 4 * 8 * (
        2 * 8 * 8 * 16
    )  # 2 blocks, 4 kicks, 8 tokens


def test_a_missing_peer_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "missing", lambda: "not here")
    result = measured(dataclasses.replace(SMALL, peers=True, methods=["adjoint"]))
    assert result.notices[0] == "peers not measured: not here"


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_integrate_the_same_flow(name: str) -> None:
    if reason := peers.missing():
        pytest.skip(reason)
    flow = perceptron_flow(4, 8, steps=200, dt=0.01, coupling=1.0).double()
    q, p = torch.randn(2, 1, 3, 4, dtype=torch.float64).requires_grad_()
    found, wanted = peers.peer(name, flow, None)(q, p), flow(q, p)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    gradients = [torch.autograd.grad(out[0].sum(), flow.potential.W)[0] for out in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3)


def test_a_model_without_an_ode_is_refused() -> None:
    workbench: Any = SimpleNamespace(config=Config(model=ModelConfig(name="stage1")))
    with pytest.raises(ConfigError, match="no ODE"):
        speed.check(workbench, SMALL)
