from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from phasebench.bench.grad import bench as grad
from phasebench.config import Config, ConfigError, GradConfig, ModelConfig, OdeConfig
from phasebench.results.gate import BenchResult, finished

SMALL = GradConfig(
    tokens=6, steps=[1, 40], integrators=["suzuki4"], precisions=["bf16"], stiffness=[3.0]
)


def measured(config: GradConfig = SMALL, **ode: Any) -> BenchResult:
    own = OdeConfig(**({"steps": 5, "dt": 0.1, "integrator": "leapfrog"} | ode))
    model = ModelConfig(dim=8, heads=2, hidden=16, ode=own)
    workbench: Any = SimpleNamespace(config=Config(model=model), device=torch.device("cpu"))
    result = grad.run(workbench, config)
    assert finished(result, 1.0)["notices"][: len(result.notices)] == result.notices
    return result


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return measured()


def test_the_gates_pass(result: BenchResult) -> None:
    assert {g.name: g.passed for g in result.gates} == {
        "reconstruction": True,
        "gradient_error": True,
        "held_growth": True,
    }
    assert result.metrics["reconstruction"].value == 0


def test_every_method_is_measured_on_every_axis(result: BenchResult) -> None:
    rows = result.details["rows"]
    settings = {(r["integrator"], r["precision"], r["steps"], r["stiffness"]) for r in rows}
    assert settings == {
        ("leapfrog", "fp32", 5, 1.0),
        ("suzuki4", "fp32", 5, 1.0),
        ("leapfrog", "bf16", 5, 1.0),
        ("leapfrog", "fp32", 1, 1.0),
        ("leapfrog", "fp32", 40, 1.0),
        ("leapfrog", "fp32", 5, 3.0),
    }
    assert len(rows) == len(settings) * len(SMALL.methods)
    assert len(result.details["table"]["rows"]) == len(rows)


def row(result: BenchResult, method: str, **at: Any) -> dict[str, Any]:
    wanted = {
        "integrator": "leapfrog",
        "precision": "fp32",
        "steps": 5,
        "stiffness": 1.0,
        "method": method,
    } | at
    (found,) = (r for r in result.details["rows"] if all(r[k] == v for k, v in wanted.items()))
    return found


def test_the_float_adjoint_does_not_come_back_exactly_and_the_exact_one_does(
    result: BenchResult,
) -> None:
    assert row(result, "adjoint", steps=40)["reconstruction"] > 0
    assert row(result, "adjoint_exact", steps=40)["reconstruction"] == 0
    assert row(result, "backprop")["reconstruction"] is None


def test_bytes_held_grow_with_the_steps_of_backprop_only(result: BenchResult) -> None:
    held = {m: [row(result, m, steps=n)["held_bytes"] for n in (1, 40)] for m in SMALL.methods}
    assert held["adjoint_exact"][0] == held["adjoint_exact"][1]
    assert held["backprop"][1] > 10 * held["backprop"][0]


def test_low_precision_shows_in_the_error_and_not_in_the_reversal(result: BenchResult) -> None:
    low = row(result, "adjoint_exact", precision="bf16")
    assert low["error"]["W"] > 100 * row(result, "adjoint_exact")["error"]["W"]
    assert low["reconstruction"] == 0
    assert 0 <= low["one_minus_cosine"]["W"] < 1e-3


def test_an_error_above_the_target_fails() -> None:
    result = measured(dataclasses.replace(SMALL, max_error=1e-12, methods=["adjoint_exact"]))
    assert [g.passed for g in result.gates] == [True, False, True]


def test_without_the_exact_adjoint_there_is_no_verdict() -> None:
    result = measured(dataclasses.replace(SMALL, methods=["backprop"]))
    assert {g.passed for g in result.gates} == {None}


def test_kind_1_errors_that_are_not_numbers() -> None:
    result = measured(dataclasses.replace(SMALL, methods=["adjoint_exact"]), dt=1e-300)
    assert {g.passed for g in result.gates} == {None}
    assert result.metrics["gradient_error"].value is not None
    assert math.isnan(float(result.metrics["gradient_error"].value))


def test_kind_1_a_stiffness_that_overflows() -> None:
    config = dataclasses.replace(SMALL, methods=["adjoint_exact"], stiffness=[1e300])
    result = measured(config)
    assert {g.passed for g in result.gates} == {None}
    assert "rows of adjoint_exact with finite gradients: 5, needed 6" in str(result.gates[0].reason)


def test_a_lattice_that_overflows_is_a_row_and_a_notice() -> None:
    result = measured(
        dataclasses.replace(SMALL, methods=["adjoint_exact"], stiffness=[1.0]), coupling=1e4
    )
    lost = [r for r in result.details["rows"] if r["status"] == "overflow"]
    assert lost
    assert "beyond the lattice" in result.notices[0]


def test_a_model_without_an_ode_is_refused() -> None:
    workbench: Any = SimpleNamespace(
        config=Config(model=ModelConfig(name="stage1")), device=torch.device("cpu")
    )
    with pytest.raises(ConfigError, match="no ODE"):
        grad.check(workbench, SMALL)
