from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from phasebench.config import INTEGRATORS as NAMES
from phasebench.dynamics import CONTRAST, INTEGRATORS, Schedule, Shear, force_evaluations, integrate
from problems import Kepler, Oscillator, Pendulum

ORDERS = {
    "leapfrog": 2,
    "leapfrog_dkd": 2,
    "mclachlan2": 2,
    "yoshida4": 4,
    "yoshida6": 6,
    "suzuki4": 4,
    "omelyan4": 4,
    "blanes_moan4": 4,
    "blanes_moan6": 6,
}
STEPS = {2: 64, 4: 96, 6: 12}  # per order: fine enough for the slope, coarse enough for float64


def end(problem: object, integrator: str, steps: int) -> Tensor:
    shears = Schedule(integrator, problem.time / steps, steps).shears
    return torch.cat(integrate(problem.q0, problem.p0, problem, shears), -1)


def exact(problem: object) -> Tensor:
    if isinstance(problem, Pendulum):
        return end(problem, "blanes_moan6", 600)
    return torch.cat(problem.exact(problem.time), -1)


def test_the_configuration_offers_exactly_the_tables() -> None:
    assert set(NAMES) == set(INTEGRATORS) == set(ORDERS)


@pytest.mark.parametrize(
    "problem", [Oscillator(), Pendulum(), Kepler()], ids=lambda p: type(p).__name__
)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_order_of_convergence(name: str, problem: object) -> None:
    coarse = STEPS[ORDERS[name]]
    errors = [(end(problem, name, n) - exact(problem)).norm().item() for n in (coarse, 2 * coarse)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.15)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_symplectic(name: str) -> None:
    problem, shears = Kepler(), Schedule(name, 0.1, 7).shears

    def flow(z: Tensor) -> Tensor:
        return torch.cat(integrate(z[:, :2], z[:, 2:], problem, shears), -1)

    J = torch.autograd.functional.jacobian(flow, torch.cat((problem.q0, problem.p0), -1))[0, :, 0]
    eye = torch.eye(2, dtype=torch.float64)
    omega = torch.cat((torch.cat((0 * eye, eye), 1), torch.cat((-eye, 0 * eye), 1)))
    torch.testing.assert_close(J.T @ omega @ J, omega, atol=1e-12, rtol=0)


@given(st.sampled_from(sorted(INTEGRATORS)), st.floats(0.01, 0.3), st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_reversible(name: str, dt: float, steps: int) -> None:
    problem = Pendulum()
    q, p = integrate(problem.q0, problem.p0, problem, Schedule(name, dt, steps).shears)
    q, p = integrate(q, -p, problem, Schedule(name, dt, steps).shears)
    torch.testing.assert_close((q, -p), (problem.q0, problem.p0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_merging_changes_only_the_number_of_kicks(name: str) -> None:
    problem, dt, steps = Pendulum(), 0.2, 5
    apart = [Shear(s.kind, s.h * dt) for s in INTEGRATORS[name] * steps]
    merged = Schedule(name, dt, steps).shears
    torch.testing.assert_close(
        integrate(problem.q0, problem.p0, problem, merged),
        integrate(problem.q0, problem.p0, problem, apart),
    )
    assert all(a.kind != b.kind for a, b in itertools.pairwise(merged))


def test_force_evaluations() -> None:
    counts = {
        name: force_evaluations(name, 10)
        for name in ("leapfrog", "leapfrog_dkd", "mclachlan2", "suzuki4", "rk4")
    }
    assert counts == {
        "leapfrog": 11,
        "leapfrog_dkd": 10,
        "mclachlan2": 20,
        "suzuki4": 51,
        "rk4": 40,
    }


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("rk4", 4)])
@pytest.mark.parametrize(
    "problem", [Oscillator(), Pendulum(), Kepler()], ids=lambda p: type(p).__name__
)
def test_order_of_the_contrast_methods(name: str, order: int, problem: object) -> None:
    def error(steps: int) -> float:
        q, p = problem.q0, problem.p0
        for _ in range(steps):
            q, p = CONTRAST[name](q, p, problem, problem.time / steps)
        return (torch.cat((q, p), -1) - exact(problem)).norm().item()

    steps = {1: 4000, 4: 200}[order]
    assert math.log2(error(steps) / error(2 * steps)) == pytest.approx(order, abs=0.15)


def test_mclachlan_beats_leapfrog_at_equal_force_evaluations() -> None:
    problem = Pendulum()
    errors = [
        (end(problem, name, n) - exact(problem)).norm()
        for name, n in (("mclachlan2", 20), ("leapfrog_dkd", 40))
    ]
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("omega_dt", [0.05, 0.1, 0.2])
def test_energy_of_the_oscillator_under_leapfrog(omega_dt: float) -> None:
    """From rest at its turning point, H swings by (omega dt)^2 / 4 of itself."""
    problem = Oscillator(omega=1.0)
    q, p = problem.q0, 0 * problem.p0
    energies = [problem.energy(q, p).item()]
    for _ in range(math.ceil(2 * math.pi / omega_dt)):
        q, p = integrate(q, p, problem, Schedule("leapfrog", omega_dt, 1).shears)
        energies.append(problem.energy(q, p).item())
    swing = (max(energies) - min(energies)) / energies[0]
    assert swing == pytest.approx(omega_dt**2 / 4, rel=0.01)
