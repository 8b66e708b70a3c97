"""bench.energy's layers, comparison and gates, on flows whose energy is known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from phasebench.bench.energy import bench as energy
from phasebench.bench.energy import layer as energy_layer
from phasebench.bench.energy.compare import compare, grid, orders
from phasebench.bench.energy.layer import Layer, growth, row, thinning
from phasebench.config import Config, ConfigError, EnergyConfig, ModelConfig, OdeConfig
from phasebench.data import Corpus, Split
from phasebench.dynamics.energy import Start, energies
from phasebench.models import LanguageModel, build_model
from phasebench.results.gate import BenchResult
from phasebench.training.scoring import NotFinite
from phasebench.training.weights import Trained
from problems import oscillator
from tiny import CPU

MODEL = ModelConfig(
    dim=8, blocks=2, heads=2, hidden=16, ode=OdeConfig(steps=2, coupling=0.5, gradient="backprop")
)


def swinging(tokens: int = 8, dtype: torch.dtype = torch.float64) -> list[Start]:
    """One layer of oscillators of unit energy, one a token, at different phases."""
    ode = oscillator()
    phases = torch.arange(tokens, dtype=dtype) * math.pi / tokens
    return [(ode, phases.cos().view(1, -1, 1), phases.sin().view(1, -1, 1))]


def layer(integrator: str, steps: int, dt: float = 0.2) -> Layer:
    ode, q, p = swinging()[0]
    with torch.no_grad():
        return Layer.of(energies(ode, q, p, steps=steps, dt=dt, integrator=integrator), 0, 0, dt)


class Bench:
    """What `energy.run` uses of a workbench; the model of each seed is drawn from it."""

    def __init__(self, model: ModelConfig = MODEL, spoil: bool = False) -> None:
        self.config, self.device, self.spoil = Config(model=model), CPU, spoil
        tokens = torch.randint(0, 20, (72,), generator=torch.Generator().manual_seed(1))
        split = Split("test", tokens, 1, 1, None)
        self.corpus = Corpus(
            name="text",
            source="",
            splits={"test": split},
            vocab_size=20,
            eos=0,
            tokenizer_name="",
            tokenizer_json="",
            fingerprint="",
            comparable=False,
            notice=None,
            entropy_rate=None,
        )

    def trained(self, config: ModelConfig, key: str, seed: int | None = None) -> Trained:
        torch.manual_seed(seed or 0)
        model: LanguageModel = build_model(config, 20)
        if self.spoil:
            torch.nn.init.constant_(model.get_parameter("blocks.1.ode.potential.a"), math.nan)
        return Trained(model.eval(), {"origin": "given", "of": seed})


def measured(bench: Bench | None = None, **changes: Any) -> BenchResult:
    config = EnergyConfig(**({"batch": 1, "seq": 12, "steps": 40} | changes))
    return energy.run(bench or Bench(), config)  # type: ignore[arg-type]


def number(result: BenchResult, key: str) -> float:
    found = result.metrics[key].value
    assert isinstance(found, int | float)
    return found


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models here are as they were drawn."""
    monkeypatch.setattr(energy, "weight_change", lambda *_: 1.0)


# layers


def test_a_long_symplectic_flow_has_no_secular_change_and_a_bounded_state() -> None:
    found = layer("leapfrog", 5_000)
    assert found.secular < 0.01 * found.trace.worst  # the energy swings by 1 % of itself
    assert not found.trend.monotonic
    assert abs(growth(found.trace.max_q) or 0.0) < 0.01
    assert found.trace.max_q.max().item() == pytest.approx(1.0, rel=0.02)
    assert found.trace.free_q > 900


def test_a_long_flow_that_is_not_symplectic_has_one() -> None:
    """RK4 multiplies an oscillator's energy by |R(iy)|^2 = 1 - y^6 / 72 + O(y^8) a step, y = omega
    dt, R its stability function 1 + x + x^2 / 2 + x^3 / 6 + x^4 / 24."""
    found = layer("rk4", 2000)
    lost = 1 - (1 - 0.2**6 / 72) ** 2000
    assert found.slope.change == pytest.approx(-lost, rel=0.05)
    assert found.secular == pytest.approx(lost, rel=0.02)
    assert found.trend.monotonic


def test_free_motion_grows_with_time() -> None:
    assert growth(torch.arange(1001) * 3.0) == pytest.approx(1.0)
    assert growth(torch.ones(1001)) == 0.0
    assert growth(torch.zeros(1001)) is None


@pytest.mark.parametrize(("steps", "every"), [(100, 1), (1003, 3), (1003, 7)])
def test_a_thinned_series_keeps_its_peaks(steps: int, every: int) -> None:
    found = layer("leapfrog", steps)
    values = row(found, every)
    assert len(values["max_drift_at_step"]) == max(1, steps // every)
    assert max(values["max_drift_at_step"]) == pytest.approx(found.trace.worst, rel=1e-5)
    assert values["drift_of_batch_mean"] == pytest.approx(
        found.trace.mean[::every].tolist(), rel=1e-5, abs=1e-20
    )
    assert values["max_q_at_step"][0] == pytest.approx(1.0)


@pytest.mark.parametrize("layers", [1, 6, 18])
@pytest.mark.parametrize("steps", [100, 201, 10_000, 100_000])
def test_the_series_of_a_run_are_bounded(steps: int, layers: int) -> None:
    points = steps // thinning(steps, layers) * layers
    assert points <= max(energy_layer.POINTS, 200 * layers)


# the comparison


def test_the_orders_are_the_integrators() -> None:
    names = ["leapfrog", "yoshida4", "suzuki4", "blanes_moan6", "rk4"]
    config = EnergyConfig(
        steps=40, dt=0.1, integrators=names, dts=[0.1, 0.2, 0.25, 0.4], precisions=["fp64"]
    )
    with torch.no_grad():
        rows = compare(swinging(), config, 3, CPU)
    found = {fitted["integrator"]: fitted["order"] for fitted in orders(rows)}
    assert {name: round(order) for name, order in found.items()} == {
        "leapfrog": 2,
        "yoshida4": 4,
        "suzuki4": 4,
        "blanes_moan6": 6,
        "rk4": 5,
    }
    assert {r["steps"] * r["dt"] for r in rows} == {4.0}
    assert {r["seed"] for r in rows} == {3}
    leapfrog = [r for r in rows if r["integrator"] == "leapfrog"]
    assert [r["force_evaluations"] for r in leapfrog] == [41, 21, 17, 11]


def test_the_first_dt_is_timed_in_the_first_precision() -> None:
    names, dts, precisions = ["rk4", "leapfrog"], [0.1, 0.05], ["fp32", "fp64"]
    config = EnergyConfig(steps=8, dt=0.1, integrators=names, dts=dts, precisions=precisions)
    with torch.no_grad():
        rows = compare(swinging(), config, 0, CPU)
    assert [(r["precision"], r["dt"], r["integrator"]) for r in rows] == [
        (precision, dt, name) for precision in precisions for dt in dts for name in names
    ]
    assert all(r["seconds"] == sorted(r["seconds_samples"])[1] > 0 for r in rows[:2])
    assert all(r["seconds"] is None for r in rows[2:])


def test_rounding_has_no_order() -> None:
    config = EnergyConfig(
        steps=40, dt=0.1, integrators=["blanes_moan6"], dts=[0.1, 0.2, 0.25], precisions=["fp32"]
    )
    with torch.no_grad():
        (fitted,) = orders(compare(swinging(), config, 0, CPU))
    assert fitted["order"] is None


def test_a_flow_that_explodes_has_no_drift_but_a_row() -> None:
    config = EnergyConfig(
        steps=2000, dt=0.5, integrators=["leapfrog"], dts=[2.5], precisions=["fp32"]
    )
    with torch.no_grad():
        (found,) = compare(swinging(dtype=torch.float32), config, 0, CPU)
    assert (found["max_drift"], found["mean_drift"], found["monotone_layers"]) == (None, None, None)
    assert found["steps"] == 400


@pytest.mark.parametrize("dt", [0.3, 2.0, 11.0])
def test_a_dt_that_does_not_fit_the_duration_is_refused(dt: float) -> None:
    with pytest.raises(ConfigError, match=r"bench\.energy\.dts"):
        grid(EnergyConfig(steps=100, dt=0.1, dts=[0.1, dt]))


# the benchmark


def test_the_benchmark_states_slopes_sizes_and_cost() -> None:
    result = measured(integrator="suzuki4")
    assert number(result, "force_evaluations") == 5 * 40 + 1
    assert number(result, "force_evaluations_of_leapfrog") == 41
    samples = result.details["flow_seconds_samples"]
    assert number(result, "flow_seconds") == sorted(samples["suzuki4"])[1] > 0
    assert number(result, "flow_seconds_of_leapfrog") == sorted(samples["leapfrog"])[1] > 0
    assert number(result, "max_q") > 0
    assert number(result, "secular_change") >= 0
    rows = result.details["layers"]
    assert [(r["seed"], r["layer"]) for r in rows] == [(0, 0), (0, 1)]
    assert all(
        len(r["max_drift_at_step"]) == 40 and len(r["drift_of_batch_mean"]) == 41 for r in rows
    )
    assert {"max_drift", "monotone_layers"} <= {g.name for g in result.gates}
    assert not {"compare", "orders"} & set(result.details)


def test_the_worst_of_all_seeds_is_judged() -> None:
    alone = [number(measured(seeds=[seed]), "max_drift") for seed in (4, 5)]
    both = measured(seeds=[4, 5])
    assert number(both, "max_drift") == max(alone)
    assert both.details["seeds"] == [4, 5]
    assert [r["seed"] for r in both.details["layers"]] == [4, 4, 5, 5]
    assert alone[0] != alone[1]


@pytest.mark.parametrize(("target", "passed"), [(1e-12, False), (1e6, True)])
def test_the_gate_on_secular_change(target: float, passed: bool) -> None:
    (found,) = (g for g in measured(secular_target=target).gates if g.name == "secular_change")
    assert found.passed is passed


def test_kind_1_nothing_moves() -> None:
    result = measured(dt=1e-30, secular_target=1.0)
    assert number(result, "max_drift") == 0
    for gate in result.gates:
        assert gate.passed is None
        if gate.name != "discretisation_change_pct":
            assert "motion of the states, relative" in (gate.reason or "")


def test_kind_1_untrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "weight_change", lambda *_: 0.0)
    assert {gate.passed for gate in measured().gates} == {None}


def test_the_comparison_is_in_the_details() -> None:
    result = measured(integrator="leapfrog", integrators=["leapfrog", "euler"], dts=[0.1, 0.2, 0.4])
    rows = result.details["compare"]
    assert len(rows) == 2 * 3 * 2
    assert {r["precision"] for r in rows} == {"fp32", "fp64"}
    (fp32,) = (
        r for r in rows if (r["integrator"], r["dt"], r["precision"]) == ("leapfrog", 0.1, "fp32")
    )
    assert fp32["max_drift"] == pytest.approx(number(result, "max_drift"), rel=1e-6)
    assert len(result.details["orders"]) == 4
    assert len(result.details["table"]["rows"]) == 6  # of float32


def test_energies_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(NotFinite, match="layer 1 is not finite from step 1"):
        measured(
            Bench(
                dataclasses.replace(MODEL, ode=dataclasses.replace(MODEL.ode, gradient="backprop")),
                spoil=True,
            )
        )


def test_a_model_without_an_ode_is_refused() -> None:
    with pytest.raises(ConfigError, match="model=gpt: has no ODE"):
        measured(Bench(ModelConfig(name="gpt", dim=8, blocks=1, heads=2, hidden=16)))


def test_float64_shows_the_order_that_float32_rounds_away() -> None:
    for name, order in (("leapfrog", 2), ("blanes_moan4", 4)):
        coarse, fine = (
            number(measured(precision="fp64", integrator=name, dt=dt, steps=steps), "max_drift")
            for dt, steps in ((0.2, 20), (0.1, 40))
        )
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.3)
    rounded = number(measured(integrator="blanes_moan6", dt=0.1), "max_drift")
    exact = measured(precision="fp64", integrator="blanes_moan6", dt=0.1)
    assert number(exact, "max_drift") < 1e-3 * rounded
    assert exact.details["precision"] == "fp64"
    assert "float64" in exact.notices[-1]
    assert measured().notices == []
