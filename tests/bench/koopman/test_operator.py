"""Operators of flows whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from phasebench.bench.koopman.operator import least_squares, observe, operators
from phasebench.config.stage3_benches import OBSERVABLES
from phasebench.dynamics import HamiltonianFlow, PerceptronPotential
from problems import SQUARE, perceptron_flow


def states(tokens: int, dim: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, tokens // 2, dim), torch.randn(2, tokens // 2, dim)


def springs(dim: int = 3) -> HamiltonianFlow:
    """Coupled oscillators: V is quadratic, so the flow is linear."""
    torch.manual_seed(1)
    W, a, b = torch.randn(dim, dim), torch.ones(dim), torch.zeros(dim)
    V = PerceptronPotential(nn.Parameter(W), nn.Parameter(a), nn.Parameter(b), SQUARE, eps=None)
    return HamiltonianFlow(V, dim=dim, steps=2, dt=0.5, gradient="adjoint")


def test_the_flow_of_a_quadratic_potential_is_linear() -> None:
    linear, forced = operators(springs(), *states(200, 3), ["linear", "force"], 0.1)
    assert max(linear.one_step, linear.iterated, linear.direct) < 1e-9
    assert linear.radius == pytest.approx(1, abs=1e-9)
    assert (linear.above_1, linear.ridge, linear.observables) == (0, 0, 7)
    # the force is a linear function of q, so the observables depend on each other
    assert forced.ridge > 0
    assert forced.iterated < 1e-4


def test_an_interacting_flow_is_not() -> None:
    flow = perceptron_flow(3, 12, coupling=2.0, steps=4, dt=1.0)
    found = operators(flow, *states(2000, 3), list(OBSERVABLES), 0.25)
    assert [operator.observables for operator in found] == [7, 10, 13]
    assert [operator.force_evaluations for operator in found] == [0, 1, 2]
    assert min(operator.iterated for operator in found) > 0.1
    assert max(operator.radius for operator in found) > 1
    assert found[2].one_step < found[1].one_step < found[0].one_step < 1


def test_leapfrog_of_equal_cost_takes_as_many_forces() -> None:
    flow = perceptron_flow(3, 12, coupling=1.0, steps=2, dt=0.5)
    q, p = states(100, 3)
    found = operators(flow, q, p, list(OBSERVABLES), 0.1)[2]
    q, p = (x.double().flatten(0, 1)[80:] for x in (q, p))
    *_, made = flow.trajectory(q, p, steps=2, dt=0.5, integrator="leapfrog_dkd")
    *_, true = flow.trajectory(q, p, steps=10, dt=0.1, integrator="omelyan4")
    free = torch.cat((q + flow.time * flow.c.double() * p, p), -1)
    made, true = torch.cat(made, -1), torch.cat(true, -1)
    assert found.leapfrog == pytest.approx(((made - true).norm() / (true - free).norm()).item())


def test_the_judged_states_are_not_fitted() -> None:
    flow = perceptron_flow(3, 12, steps=2, dt=0.5)
    q, p = states(500, 3)
    one = operators(flow, q, p, ["linear"], 0.1)[0]
    q[1, -50:] *= 3  # of the last fifth
    other = operators(flow, q, p, ["linear"], 0.1)[0]
    assert (one.radius, one.above_1) == (other.radius, other.above_1)
    assert one.iterated != other.iterated


@pytest.mark.parametrize("eps", [0.25, None])
def test_the_force_rate_is_the_force_s_derivative_along_the_flow(eps: float | None) -> None:
    flow = perceptron_flow(4, 9, eps=eps, steps=1, dt=1.0, coupling=1.0)
    nn.init.normal_(flow.log_c[0])
    q, p = (x.double().flatten(0, 1) for x in states(10, 4))
    with torch.no_grad():
        _, force, rate = observe(flow, torch.cat((q, p), -1), list(OBSERVABLES))
        H, h = flow.hamiltonian(torch.float64).cast(), 1e-5
        ahead, behind = (H.force(q + t * H.velocity(p)) for t in (h, -h))
    torch.testing.assert_close(force, H.force(q))
    torch.testing.assert_close(rate, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


def test_least_squares_needs_a_ridge_only_where_columns_depend() -> None:
    torch.manual_seed(0)
    X, A = torch.randn(50, 4, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    found, ridge = least_squares(X, X @ A)
    assert ridge == 0
    torch.testing.assert_close(found, A)
    twice = torch.cat((X, X[:, :1]), -1)
    found, ridge = least_squares(twice, X @ A)
    assert ridge > 0
    torch.testing.assert_close(twice @ found, X @ A, rtol=1e-6, atol=1e-6)
