"""What bench=speed measures and reports; how fast it was decides nothing here."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from phasebench.bench import peers, speed
from phasebench.config import Config, ConfigError, ModelConfig, OdeConfig, SpeedConfig
from phasebench.dynamics import HamiltonianFlow
from phasebench.entries import BenchResult, finished

SMALL = SpeedConfig(batch=1, seq=8, vocab=30, precision="fp32", repeats=2, warmup=1, peers=False)


def measured(config: SpeedConfig = SMALL) -> BenchResult:
    model = ModelConfig(dim=8, heads=2, hidden=16, blocks=2, ode=OdeConfig(steps=3))
    tools = {"device": torch.device("cpu"), "release": list}
    workbench: Any = SimpleNamespace(config=Config(model=model), **tools)
    result = speed.run(workbench, config)
    assert finished(result, 1.0)["notices"] == result.notices  # JSON holds all of it
    return result


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return measured()


def test_every_method_is_timed_in_the_stack_and_in_the_model(result: BenchResult) -> None:
    arms = [(row["what"], row["arm"]) for row in result.details["rows"]]
    assert arms == [("ode stack", m) for m in SMALL.methods] + [("model", m) for m in (*SMALL.methods, "stage1")]
    for row in result.details["rows"]:
        assert len(row["seconds"]) == SMALL.repeats
        assert row["tokens_per_s"] == pytest.approx(8e3 / row["median_ms"])
        assert row["peak_gb"] is None
        assert (row["ceiling_fraction"] is not None) == (row["what"] == "ode stack")


def test_there_are_gates_only_where_limits_are_given(result: BenchResult) -> None:
    assert result.gates == []
    strict = dataclasses.replace(SMALL, max_ms=1e-9, min_ceiling_fraction=1e-9)
    assert {g.name: g.passed for g in measured(strict).gates} == {
        "ode_stack_median_ms": False, "ode_stack_ceiling_fraction": True,
    }  # fmt: skip


def test_a_gate_without_its_arm_is_not_measured() -> None:
    found = measured(dataclasses.replace(SMALL, methods=["backprop"], max_ms=1.0))
    assert [(g.passed, g.reason) for g in found.gates] == [(None, "adjoint_exact is not among bench.speed.methods")]


def test_needed_flops_are_eight_products_a_kick() -> None:
    model = ModelConfig(dim=8, heads=2, hidden=16, blocks=2, ode=OdeConfig(steps=3))
    assert speed._needed_flops(model, SMALL) == 2 * 4 * 8 * (2 * 8 * 8 * 16)  # 2 blocks, 4 kicks, 8 tokens


def test_a_missing_peer_is_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "missing", lambda: "not here")
    result = measured(dataclasses.replace(SMALL, peers=True, methods=["adjoint"]))
    assert result.notices == ["peers not measured: not here"]


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_integrate_the_same_flow(name: str) -> None:
    if reason := peers.missing():
        pytest.skip(reason)
    flow = HamiltonianFlow(4, 8, steps=200, dt=0.01, coupling=1.0).double()
    q, p = torch.randn(2, 1, 3, 4, dtype=torch.float64).requires_grad_()
    found, wanted = peers.peer(name, flow, None)(q, p), flow(q, p)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    gradients = [torch.autograd.grad(out[0].sum(), flow.W)[0] for out in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-3)


def test_a_model_without_an_ode_is_refused() -> None:
    workbench: Any = SimpleNamespace(config=Config(model=ModelConfig(name="stage1")))
    with pytest.raises(ConfigError, match="no ODE"):
        speed.check(workbench, SMALL)
