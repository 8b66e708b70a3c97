from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from phasebench.config import POTENTIALS as NAMES
from phasebench.dynamics import (
    INTEGRATORS,
    POTENTIALS,
    STAND_INS,
    Hamiltonian,
    Schedule,
    force_evaluations,
    integrate,
)
from phasebench.dynamics.integrators import integrate_compensated
from phasebench.dynamics.perceptron import curvature, pull
from problems import oscillator, perceptron, perceptron_flow

EPS = [0.5, 0.01, None]


def hamiltonian(name: str, eps: float | None, dim: int = 5, terms: int = 11) -> Hamiltonian:
    W, a, b = torch.randn(terms, dim), torch.randn(terms) * 0.3, torch.randn(terms)
    weights = W.double(), a.double(), b.double(), torch.randn(dim).div(2).exp().double()
    return perceptron(*weights, name, eps)


def states(*shape: int) -> Tensor:
    return torch.randn(2, *shape, dtype=torch.float64)


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
@pytest.mark.parametrize("eps", EPS)
def test_force_and_velocity_are_the_gradient_of_the_energy(name: str, eps: float | None) -> None:
    H = hamiltonian(name, eps)
    q, p = (x.requires_grad_() for x in states(3, 4, 5))
    dq, dp = torch.autograd.grad(H.energy(q, p).sum(), (q, p))
    torch.testing.assert_close(H.force(q), -dq)
    torch.testing.assert_close(H.velocity(p), dp)


@pytest.mark.parametrize("name", POTENTIALS)
@pytest.mark.parametrize("eps", EPS)
def test_the_hessian_vector_product_is_autograd_s(name: str, eps: float | None) -> None:
    H, (q, v) = hamiltonian(name, eps).potential, states(3, 5)
    _, wanted = torch.autograd.functional.hvp(lambda q: H.value(q).sum(), q, v)
    n, r = H.normalised(q)
    slope, second = H.sigma.slopes(H.z(n))
    u, x = (H.a * slope) @ H.W, (H.a * second * (pull(v, n, r) @ H.W.T)) @ H.W
    torch.testing.assert_close(curvature(x, u, v, n, r), wanted)


def test_a_normalised_force_is_orthogonal_to_the_state_up_to_eps() -> None:
    H, (q, _) = hamiltonian("gelu", 0.01).potential, states(4, 5)
    n, r = H.normalised(q)
    u = (H.a * H.sigma.slope(H.z(n))) @ H.W
    torch.testing.assert_close((n * H.force(q)).sum(-1), (-0.01 * r**3)[:, 0] * (n * u).sum(-1))


@pytest.mark.parametrize("coupling", [0.5, 2.0])
def test_the_force_is_about_as_strong_as_asked(coupling: float) -> None:
    ode = perceptron_flow(64, 256, steps=1, dt=0.1, coupling=coupling)
    force = ode.hamiltonian().force(torch.randn(1000, 64) / 2**0.5)
    assert force.square().mean().sqrt().item() == pytest.approx(coupling, rel=0.35)


def test_energy_is_one_number_a_token_in_the_state_s_precision() -> None:
    ode = perceptron_flow(4, 8, steps=3, dt=0.1)
    q, p = states(2, 3, 4)
    H = ode.h_func(q, p)
    assert H.shape == (2, 3)
    assert H.dtype == torch.float64
    torch.testing.assert_close(
        H, p.square().sum(-1) / 2 + ode.hamiltonian(torch.float64).cast().value(q)
    )


@pytest.mark.parametrize("name", INTEGRATORS)
def test_order_of_convergence_and_symplecticity(name: str) -> None:
    torch.manual_seed(3)
    H, (q, p) = hamiltonian("gelu", 0.5, dim=2), states(1, 2)
    order = int(name[-1]) if name[-1].isdigit() else 2
    steps = {2: 32, 4: 24, 6: 8}[order]

    def end(z: Tensor, n: int) -> Tensor:
        shears = Schedule(name, 2.0 / n, n).shears
        return torch.cat(integrate(z[:, :2], z[:, 2:], H, shears), -1)

    z = torch.cat((q, p), -1)
    exact = torch.cat(integrate(q, p, H, Schedule("blanes_moan6", 2.0 / 400, 400).shears), -1)
    errors = [(end(z, n) - exact).norm() for n in (steps, 2 * steps)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)
    J = torch.autograd.functional.jacobian(lambda z: end(z, 4), z)[0, :, 0]
    eye = torch.eye(2, dtype=torch.float64)
    omega = torch.cat((torch.cat((0 * eye, eye), 1), torch.cat((-eye, 0 * eye), 1)))
    torch.testing.assert_close(J.T @ omega @ J, omega, atol=1e-12, rtol=0)


def test_momenta_stay_bounded_for_ten_thousand_steps() -> None:
    """Energy bounds them: sum c p^2 / 2 <= T(0) + V(0) - min V, and |V| <= sum |a| max sigma."""
    ode = perceptron_flow(8, 32, steps=1, dt=0.1, coupling=2.0).double()
    H, (q, p) = ode.hamiltonian(), states(20, 8)
    n_max = 8**0.5
    V = ode.potential
    W, a, b = V.weights
    z_max = W.norm(dim=1) * n_max + b.abs()
    room = H.kinetic(p) + 2 * (a.abs() * V.sigma.value(z_max)).sum()
    with torch.no_grad():
        start = H.energy(q, p)
        *_, (q1, p1) = ode.trajectory(q, p, steps=10_000, dt=0.1, integrator="leapfrog")
        assert (H.kinetic(p1) <= room).all()
        assert (H.energy(q1, p1) - start).abs().max() < 0.05 * start.abs().mean()
        assert p1.abs().max() < 4 * p.abs().max()


def test_compensated_sums_keep_the_energy_of_a_long_run_in_float32() -> None:
    """Far away a kick is below half of p's last bit, and plain sums lose the work that it does."""
    ode, (q, p) = perceptron_flow(8, 32, steps=1, dt=0.1, coupling=2.0), states(20, 8)
    H, q, p = ode.hamiltonian(torch.float64).cast(), q.float(), p.float()
    worst = {}
    with torch.no_grad():
        for compensated in (False, True):
            *_, (q1, p1) = ode.trajectory(
                q, p, steps=3000, dt=0.1, integrator="blanes_moan4", compensated=compensated
            )
            change = H.energy(q1.double(), p1.double()) - H.energy(q.double(), p.double())
            worst[compensated] = change.abs().max().item()
    assert worst[True] < worst[False] / 10


def test_compensated_sums_are_those_of_exact_arithmetic() -> None:
    """A thousand kicks of a tenth of the last bit add up to a hundred of them."""
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    kick = SimpleNamespace(force=lambda q: one * 2**-23 / 10, velocity=lambda p: 0 * p)
    shears = Schedule("leapfrog", 1.0, 1000).shears
    assert torch.equal(integrate(zero, one, kick, shears)[1], one)
    _, p, _, lost = integrate_compensated(zero, one, zero, zero, kick, shears)
    torch.testing.assert_close(p.double() + lost - 1, 100 * 2.0**-23 * one.double())


@pytest.mark.gpu
def test_a_recorded_trajectory_is_bit_for_bit_the_one_that_is_launched() -> None:
    ode = perceptron_flow(8, 32, steps=1, dt=0.1).cuda()
    q, p = torch.randn(2, 20, 8, device="cuda")
    ends = []
    for grad in (True, False):  # a graph is recorded only where no gradients are
        for compensated in (False, True):
            with torch.set_grad_enabled(grad):
                *_, end = ode.trajectory(
                    q, p, steps=1000, dt=0.1, integrator="blanes_moan4", compensated=compensated
                )
            ends.append(torch.stack(end).detach())
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[3])
    assert not torch.equal(ends[0], ends[1])


def test_trajectory_starts_at_the_state_and_ends_where_the_flow_does() -> None:
    ode = perceptron_flow(4, 8, steps=6, dt=0.1).double()
    q, p = states(2, 3, 4)
    trajectory = list(ode.trajectory(q, p, steps=6, dt=0.1, integrator="blanes_moan4"))
    assert len(trajectory) == 7
    assert torch.equal(trajectory[0][0], q)
    torch.testing.assert_close(trajectory[-1], ode(q, p))


@pytest.mark.parametrize("integrator", ["leapfrog", "leapfrog_dkd", "blanes_moan4", "euler", "rk4"])
def test_a_trajectory_takes_the_forces_that_are_counted(
    integrator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its steps are, bit for bit, those that compute every force."""
    ode, taken, force = perceptron_flow(4, 8, steps=6, dt=0.1), [], Hamiltonian.force
    q, p = torch.randn(2, 2, 3, 4)
    with torch.no_grad():
        step = Schedule("leapfrog", 0.1, 1).shears
        wanted = [(q, p)]
        for _ in range(6):
            wanted.append(integrate(*wanted[-1], ode.hamiltonian(), step))
        monkeypatch.setattr(Hamiltonian, "force", lambda H, q: taken.append(q) or force(H, q))
        found = list(ode.trajectory(q, p, steps=6, dt=0.1, integrator=integrator))
    assert len(taken) == force_evaluations(integrator, 6)
    same = all(
        torch.equal(a, b)
        for pair in zip(found, wanted, strict=True)
        for a, b in zip(*pair, strict=True)
    )
    assert same == (integrator == "leapfrog")


def test_stand_ins_know_their_answers() -> None:
    """Of an oscillator by one leapfrog step h: q1 = q + h p - h^2 q / 2, to which first order adds
    nothing; p1 = p - h q / 2 - h (q + h p) / 2 without the flow's h^3 q / 4."""
    ode, h = oscillator().double(), 0.5
    ode.dt = h
    q, p = states(3, 1)
    assert torch.equal(torch.stack(ode.free_motion(q, p)), torch.stack((q + h * p, p)))
    q1, p1 = ode.first_order(q, p)
    torch.testing.assert_close(q1, q + h * p - h * h / 2 * q)
    torch.testing.assert_close(p1, p - h / 2 * q - h / 2 * (q + h * p))
    torch.testing.assert_close(ode(q, p), (q1, p1 + h**3 / 4 * q))


def test_without_a_force_the_flow_is_free_motion_bit_for_bit() -> None:
    ode = perceptron_flow(4, 8, steps=2, dt=0.5, gradient="backprop")
    torch.nn.init.zeros_(ode.potential.a)
    torch.nn.init.normal_(ode.log_c[0])
    q, p = torch.randn(2, 3, 4)
    ends = [ode(q, p), *(stand_in(ode, q, p) for stand_in in STAND_INS.values())]
    assert all(torch.equal(torch.stack(end), torch.stack(ends[0])) for end in ends)


def test_first_order_is_what_the_flow_comes_to_as_the_force_becomes_weak() -> None:
    """The difference is of second order in the force, that from free motion of first."""
    ode = perceptron_flow(4, 8, steps=2, dt=0.5).double()
    q, p = states(5, 4)
    nonlinearity = []
    with torch.no_grad():
        for _ in range(2):
            ode.potential.a.mul_(0.01)
            end, first, free = (
                torch.stack(x) for x in (ode(q, p), ode.first_order(q, p), ode.free_motion(q, p))
            )
            nonlinearity.append(((end - first).norm() / (end - free).norm()).item())
    assert nonlinearity[1] == pytest.approx(nonlinearity[0] / 100, rel=0.1)
