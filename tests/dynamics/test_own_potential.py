"""Potentials of one's own: every gradient method, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.config import ConfigError
from phasebench.dynamics import (
    GRADIENTS,
    ROUND_TRIPS,
    AutogradPotential,
    HamiltonianFlow,
    LatticeCorrupted,
    Potential,
    exact_adjoint,
    probe,
)
from phasebench.dynamics.energy import energies

D = 4


class Wells(AutogradPotential):
    """A perceptron and springs around fixed centres."""

    def __init__(self) -> None:
        super().__init__()
        # torch takes other kernels for SiLU's and the norm's gradients where these have a graph
        self.net = nn.Sequential(nn.Linear(D, 8), nn.SiLU(), nn.LayerNorm(8), nn.Linear(8, 1))
        self.k = nn.Parameter(torch.ones(D))
        self.register_buffer("centre", torch.randn(D, D))

    def value(self, q: Tensor) -> Tensor:
        return self.net(q)[..., 0] + (self.k * (q - q @ self.centre / 4) ** 2).sum(-1) / 2


class Spring:
    """The protocol in closed form, and no module."""

    def __init__(self, k: Tensor) -> None:
        self.weights = (k,)

    def of(self, *weights: Tensor, dtype: torch.dtype | None = None) -> Spring:
        return Spring(weights[0] if dtype is None else weights[0].to(dtype))

    def value(self, q: Tensor) -> Tensor:
        return (self.weights[0] * q * q).sum(-1) / 2

    def force(self, q: Tensor) -> Tensor:
        return -self.weights[0] * q

    def adjoint(self, q: Tensor, v: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        return self.force(q), self.weights[0] * v, [(q * v).flatten(0, -2).sum(0)]


def states(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 3, D).to(dtype).requires_grad_() for _ in range(2)]


def gradients(V: Potential, method: str, dtype: torch.dtype, weights: list[Tensor]) -> Any:
    flow = HamiltonianFlow(V, steps=4, dt=0.2, gradient=method).to(dtype)
    start = states(dtype)
    q, p = flow(*start)
    inputs = [*start, *weights]
    return torch.autograd.grad((q.sin() * p).sum(), inputs, materialize_grads=True)


@pytest.mark.parametrize("method", GRADIENTS)
def test_every_method_gives_the_gradients_of_autograd(method: str) -> None:
    V = Wells().double()
    weights = list(V.parameters())
    wanted = gradients(V, "autograd", torch.float64, weights)
    found = gradients(V, method, torch.float64, weights)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", GRADIENTS)
def test_a_potential_in_closed_form_is_one_of_three_lines(method: str) -> None:
    class ThreeLines(AutogradPotential):
        def __init__(self) -> None:
            super().__init__()
            self.k = nn.Parameter(k.detach().clone())

        def value(self, q: Tensor) -> Tensor:
            return (self.k * q * q).sum(-1) / 2

    k = torch.linspace(0.5, 2, D, dtype=torch.float64, requires_grad=True)
    derived = ThreeLines()
    wanted = gradients(derived, method, torch.float64, [derived.k])
    found = gradients(Spring(k), method, torch.float64, [k])
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("method", ROUND_TRIPS)
def test_the_reversal_is_exact_to_the_bit(method: str) -> None:
    flow = HamiltonianFlow(Wells(), steps=10, dt=0.1, dim=D)
    q, p = (x.detach() for x in states(torch.float32))
    start, back = ROUND_TRIPS[method](q, p, flow.problem())
    assert torch.equal(start, back)
    assert not torch.equal(start, ROUND_TRIPS[method](*flow(q, p), flow.problem())[0])


def test_under_autocast_forces_are_float32() -> None:
    flow, start = HamiltonianFlow(Wells(), steps=3, dt=0.1), states(torch.float32)
    plain = flow(*start)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(x, y) for x, y in zip(flow(*start), plain, strict=True))


def test_energies_are_float64_whatever_the_weights_are() -> None:
    flow = HamiltonianFlow(Wells(), steps=1, dt=0.1, dim=D)
    with torch.no_grad():
        trace = energies(flow, *states(torch.float32), steps=20, dt=0.05)
    assert 0 < trace.worst < 1e-3
    assert trace.max_drift.dtype == torch.float64


def test_an_exact_adjoint_in_a_module_of_one_s_own() -> None:
    V, (q, p) = Wells(), states(torch.float32)
    found = torch.autograd.grad(exact_adjoint(V, q, p, steps=5, dt=0.1)[0].sum(), (q, p, V.k))
    flow = HamiltonianFlow(V, steps=5, dt=0.1, gradient="backprop")
    wanted = torch.autograd.grad(flow(q, p)[0].sum(), (q, p, V.k))
    torch.testing.assert_close(found, wanted)


def test_the_backward_pass_takes_the_weights_of_the_forward_pass() -> None:
    """Also where these were others for that call only (torch.func), or are frozen."""
    flow, (q, p) = HamiltonianFlow(Wells(), steps=3, dt=0.1, gradient="adjoint"), states()
    flow = flow.double()
    flow.potential.net.requires_grad_(False)
    k = torch.full((D,), 2.0, dtype=torch.float64, requires_grad=True)
    q1, _ = torch.func.functional_call(flow, {"potential.k": k}, (q, p))
    (found,) = torch.autograd.grad(q1.sum(), k)
    flow.gradient = "backprop"
    with torch.no_grad():
        flow.get_parameter("potential.k").copy_(k)
    (wanted,) = torch.autograd.grad(flow(q, p)[0].sum(), flow.get_parameter("potential.k"))
    torch.testing.assert_close(found, wanted)
    assert not any(x.requires_grad for x in flow.potential.net.parameters())


def test_weights_that_change_before_the_backward_pass_are_noticed() -> None:
    flow, (q, p) = HamiltonianFlow(Wells(), steps=3, dt=0.1), states(torch.float32)
    end = flow(q, p)[0].sum()
    flow.get_parameter("potential.k").data.mul_(2)
    with pytest.raises(LatticeCorrupted):
        end.backward()


def test_a_linear_potential_has_no_curvature() -> None:
    class Slope(AutogradPotential):
        def value(self, q: Tensor) -> Tensor:
            return q.sum(-1)

    q, p = states()
    q1, _ = exact_adjoint(Slope(), q, p, steps=5, dt=0.2)
    torch.testing.assert_close(torch.autograd.grad(q1.sum(), (q, p)), (q * 0 + 1, p * 0 + 1.0))


BAD = {
    "value(q) has shape (2, 3, 4)": lambda V, q: q * q,
    "value(q) has shape ()": lambda V, q: (q * q).sum(),
    "value(q) of a token depends on another token": lambda V, q: (q * q.mean(1, True)).sum(-1),
    "value(q) is cut off from q": lambda V, q: (q.detach() ** 2).sum(-1),
    "value(q) differs from call to call": lambda V, q: F.dropout(q * q).sum(-1),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_value_is_refused_by_name(message: str) -> None:
    kind = type("Mine", (AutogradPotential,), {"value": BAD[message]})
    with pytest.raises(ConfigError) as error:
        HamiltonianFlow(kind(), steps=1, dt=0.1)(*states())
    assert f"potential=Mine: {message}" in str(error.value)
    assert "fix: " in str(error.value)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("force", lambda V, q: q[..., :1], "force(q) has shape (2, 3, 1)"),
        ("force", lambda V, q: q.cumsum(1), "force(q) of a token depends on another token"),
        ("adjoint", lambda V, q, v: (q, v[..., 0], ()), "adjoint(q, v)[1] has shape (2, 3)"),
    ],
)
def test_a_bad_force_or_adjoint_is_refused_by_name(name: str, method: Any, message: str) -> None:
    kind = type("Mine", (Spring,), {name: method, "of": lambda V, *w, dtype=None: V})
    with pytest.raises(ConfigError) as error:
        probe(kind(torch.ones(D)), states()[0])
    assert message in str(error.value)


def test_what_is_no_potential_and_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="potential=Linear: has not the methods"):
        probe(nn.Linear(2, 2), states()[0])  # type: ignore[arg-type]
    for key, value in (("integrator", "leapfog"), ("gradient", "adjont"), ("steps", 0)):
        options: Any = {"steps": 1, "dt": 0.1} | {key: value}
        with pytest.raises(ConfigError, match=f"{key}={value}"):
            HamiltonianFlow(Wells(), **options)


def test_the_probe_draws_no_random_numbers() -> None:
    V, (q, _) = Wells(), states(torch.float32)
    before = torch.get_rng_state()
    probe(V, q)
    assert torch.equal(before, torch.get_rng_state())
