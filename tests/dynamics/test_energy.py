from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from phasebench.bench.energy.trend import trend
from phasebench.config import ModelConfig, OdeConfig
from phasebench.dynamics.energy import Start, energies, flow_starts
from phasebench.models import build_model
from problems import oscillator, perceptron_flow


def swinging(phases: Tensor) -> Start:
    """Oscillators of unit energy, one a token, at those phases."""
    return oscillator(1.0), phases.cos().view(1, -1, 1), phases.sin().view(1, -1, 1)


@pytest.mark.parametrize("dt", [0.1, 0.2])
def test_the_oscillator_s_drift_is_the_exact_one(dt: float) -> None:
    """From rest, H swings by (omega dt)^2 / 4 of itself, and of E_ref = H(0)."""
    q = torch.ones(1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        series = energies(oscillator(1.0), q, 0 * q, steps=math.ceil(2 * math.pi / dt), dt=dt)
    assert series.reference == pytest.approx(0.5)
    assert series.worst == pytest.approx(dt**2 / 4, rel=0.01)
    assert series.exchange.item() == pytest.approx(1.0, rel=0.02)


def test_the_mean_over_tokens_hides_what_the_tokens_do() -> None:
    phases = torch.arange(8, dtype=torch.float64) * math.pi / 8
    with torch.no_grad():
        series = energies(*swinging(phases), steps=60, dt=0.2)
    assert series.mean.abs().max() < series.worst / 5


@pytest.mark.parametrize("at_once", [1, 7, 21, 100])
def test_how_many_steps_are_taken_at_once_does_not_matter(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ode = perceptron_flow(8, 32, steps=1, dt=0.1, integrator="leapfrog").double()
    q, p = torch.randn(2, 2, 3, 8, dtype=torch.float64)
    with torch.no_grad():
        wanted = [
            energies(ode, q[:, i : i + 1], p[:, i : i + 1], steps=20, dt=0.1) for i in range(3)
        ]
        monkeypatch.setattr("phasebench.dynamics.energy._BYTES", at_once * 8 * 6 * 32)
        found = energies(ode, q, p, steps=20, dt=0.1)
    assert found.reference == pytest.approx(sum(one.reference for one in wanted) / 3)
    assert found.mean_energy == pytest.approx(sum(one.mean_energy for one in wanted) / 3)
    worst = torch.stack([one.max_drift * one.reference for one in wanted]).amax(0)
    torch.testing.assert_close(found.max_drift * found.reference, worst)
    torch.testing.assert_close(found.max_q, torch.stack([one.max_q for one in wanted]).amax(0))
    exchange = torch.stack([one.exchange.view(2) * one.reference for one in wanted], 1)
    torch.testing.assert_close(found.exchange.view(2, 3) * found.reference, exchange)
    assert found.exchange.shape == (6,)
    assert found.free_q == pytest.approx(max(one.free_q for one in wanted))


def test_a_better_integrator_drifts_less() -> None:
    ode = perceptron_flow(8, 32, steps=1, dt=0.1, integrator="leapfrog").double()
    q, p = torch.randn(2, 1, 6, 8, dtype=torch.float64)
    drift = {}
    with torch.no_grad():
        for name in ("leapfrog", "blanes_moan4"):
            drift[name] = energies(ode, q, p, steps=20, dt=0.1, integrator=name).worst
    assert drift["blanes_moan4"] < drift["leapfrog"] / 100


@pytest.mark.parametrize(
    ("integrator", "monotonic"), [("leapfrog", False), ("euler", True), ("rk4", True)]
)
def test_the_monotone_test_tells_integrators_apart(integrator: str, monotonic: bool) -> None:
    phases = torch.arange(8, dtype=torch.float64) * math.pi / 8
    with torch.no_grad():
        series = energies(*swinging(phases), steps=200, dt=0.2, integrator=integrator)
    assert trend(series.mean.tolist()).monotonic is monotonic


def test_every_layer_starts_from_its_own_state_on_the_text() -> None:
    model = build_model(
        ModelConfig(dim=8, blocks=3, heads=2, hidden=16, ode=OdeConfig(steps=2)), 20
    ).eval()
    with torch.no_grad():
        starts = flow_starts(model, torch.randint(0, 20, (2, 5)))
    assert [ode for ode, _, _ in starts] == [block.ode for block in model.blocks]
    assert all(q.shape == p.shape == (2, 5, 8) for _, q, p in starts)
    assert not torch.equal(starts[0][1], starts[1][1])
    assert not any(block.ode._forward_pre_hooks for block in model.blocks)
