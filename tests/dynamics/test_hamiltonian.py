from __future__ import annotations

import pytest
import torch

from phasebench.config import POTENTIALS as NAMES
from phasebench.dynamics import (
    POTENTIALS,
    HamiltonianFlow,
    Potential,
    force_evaluations,
    integrate,
    schedule,
)


def potential(name: str, omega: float = 0.7) -> Potential:
    W, a, b = torch.randn(11, 5), torch.randn(11), torch.randn(11)
    return Potential(W.double(), a.double(), b.double(), 0.3, omega, POTENTIALS[name])


def test_the_configuration_offers_exactly_the_table() -> None:
    assert set(NAMES) == set(POTENTIALS)


@pytest.mark.parametrize("name", POTENTIALS)
def test_slopes_are_the_derivatives(name: str) -> None:
    z = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    sigma = POTENTIALS[name]
    (first,) = torch.autograd.grad(sigma.value(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    torch.testing.assert_close(sigma.slopes(z.detach()), (first.detach(), second))
    torch.testing.assert_close(sigma.slope(z.detach()), first.detach())


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("omega", [0.0, 0.7])
def test_force_is_minus_the_gradient_of_the_energy(name: str, omega: float) -> None:
    V = potential(name, omega)
    q = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(V.energy(q, torch.randn_like(q)).sum(), q)
    torch.testing.assert_close(V.force(q), -gradient)


def test_energy_is_one_number_a_token_in_the_state_s_precision() -> None:
    ode = HamiltonianFlow(4, 8, steps=3, dt=0.1)
    q, p = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    H = ode.h_func(q, p)
    assert H.shape == (2, 3)
    assert H.dtype == torch.float64
    torch.testing.assert_close(
        H, p.square().sum(-1) / 2 + ode.potential().cast(torch.float64).value(q)
    )


def test_trajectory_starts_at_the_state_and_ends_where_the_flow_does() -> None:
    ode = HamiltonianFlow(4, 8, steps=6, dt=0.1).double()
    q, p = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    states = list(ode.trajectory(q, p, steps=6, dt=0.1, integrator="leapfrog"))
    assert len(states) == 7
    assert torch.equal(states[0][0], q)
    torch.testing.assert_close(states[-1], ode(q, p))


@pytest.mark.parametrize("integrator", ["leapfrog", "leapfrog_dkd", "blanes_moan4", "euler", "rk4"])
def test_a_trajectory_takes_the_forces_that_are_counted(
    integrator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its steps are, bit for bit, those that compute every force."""
    ode, taken, force = HamiltonianFlow(4, 8, steps=6, dt=0.1, coupling=1.0), [], Potential.force
    q, p = torch.randn(2, 2, 3, 4)
    with torch.no_grad():
        step = schedule("leapfrog", 0.1, 1)
        wanted = [(q, p)]
        for _ in range(6):
            wanted.append(integrate(*wanted[-1], ode.potential(), step))
        monkeypatch.setattr(Potential, "force", lambda V, q: taken.append(q) or force(V, q))
        states = list(ode.trajectory(q, p, steps=6, dt=0.1, integrator=integrator))
    assert len(taken) == force_evaluations(integrator, 6)
    same = all(
        torch.equal(a, b)
        for pair in zip(states, wanted, strict=True)
        for a, b in zip(*pair, strict=True)
    )
    assert same == (integrator == "leapfrog")


@pytest.mark.parametrize("omega", [0.0, 0.7])
@pytest.mark.parametrize("integrator", ["leapfrog", "leapfrog_dkd", "blanes_moan4"])
def test_the_free_map_is_the_flow_without_its_terms(integrator: str, omega: float) -> None:
    ode = HamiltonianFlow(4, 8, steps=6, dt=0.3, omega=omega, integrator=integrator).double()
    torch.nn.init.zeros_(ode.a)
    q, p = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    M0, M1, M2, M3 = ode.free_map()
    torch.testing.assert_close(ode(q, p), (M0 * q + M1 * p, M2 * q + M3 * p))
    assert pytest.approx(1.0) == M0 * M3 - M1 * M2
    assert ((M0, M2, M3) == (1.0, 0.0, 1.0)) == (omega == 0)
