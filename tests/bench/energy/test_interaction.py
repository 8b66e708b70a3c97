"""The figures of interaction against cases with known answers and an independent loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from phasebench.bench.energy.interaction import _beyond_linear, _ratio, flows_as, interaction
from phasebench.dynamics import HamiltonianFlow
from phasebench.dynamics.integrators import INTEGRATORS
from problems import perceptron_flow


def flow(eps: float | None = 0.25) -> HamiltonianFlow:
    torch.manual_seed(1)
    made = perceptron_flow(4, 16, steps=2, dt=1.0, coupling=1.0, eps=eps)
    with torch.no_grad():
        made.log_c[0].normal_(0, 0.3)
    return made


def states(tokens: int = 4096) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(tokens, 4), torch.randn(tokens, 4)


def test_a_flow_without_a_force_gives_exactly_zero() -> None:
    still = flow()
    with torch.no_grad():
        still.potential.a.zero_()
    assert vars(interaction(still, *states())) == {
        "force_share": 0.0,
        "learned_exchange": 0.0,
        "nonlinearity": 0.0,
        "beyond_linear": 0.0,
    }


def test_an_independent_loop_gives_the_same() -> None:
    made, (q0, p0) = flow(), states()
    q, p = q0.double(), p0.double()
    weights = (*made.potential.weights, made.c)
    W, a, b, c = (x.detach().double() for x in weights)

    def potential(q: Tensor) -> Tensor:
        z = (q / (q.square().mean(-1, keepdim=True) + 0.25).sqrt()) @ W.T + b
        below = 0.5 * (1 + torch.erf(z / 2**0.5))
        density = torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5
        return (((z * z - 1) * below + z * density) / 2) @ a

    def force(q: Tensor) -> Tensor:
        q = q.detach().requires_grad_()
        return -torch.autograd.grad(potential(q).sum(), q)[0]

    straight_q, x, v, first_q, first_p = q, q, p, q, p
    reference = ((c * p * p).sum(-1) / 2 + potential(q).abs()).mean()
    exchange = torch.zeros(len(q), dtype=torch.float64)
    for _ in range(2):
        for shear in INTEGRATORS["blanes_moan4"]:
            if shear.kind == "kick":
                v, first_p = v + shear.h * force(x), first_p + shear.h * force(straight_q)
            else:
                x, first_q = x + shear.h * c * v, first_q + shear.h * c * first_p
                straight_q = straight_q + shear.h * c * p
        exchange = torch.maximum(exchange, (potential(x) - potential(q)).abs().detach())
    end, free = torch.cat((x, v), -1), torch.cat((straight_q, p), -1)
    first = torch.cat((first_q, first_p), -1)
    found = interaction(made, q0, p0)
    moved = (end - free).norm()
    assert found.force_share == pytest.approx((moved / (2 * c * p).norm()).item())
    assert found.nonlinearity == pytest.approx(((end - first).norm() / moved).item())
    assert found.learned_exchange == pytest.approx((exchange.mean() / reference).item())
    assert found.beyond_linear > 0.1


def test_a_spring_moves_states_far_and_is_linear() -> None:
    # q'' = -q for a time t, from q = 1 and p = 0, and from q = 0 and p = 1: an exact rotation
    t = 1.0
    start = torch.randn(256, 2, dtype=torch.float64)
    turn = torch.tensor([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]).double()
    end, free = start @ turn, start @ torch.tensor([[1.0, 0.0], [t, 1.0]]).double()
    change = turn - torch.tensor([[1.0, 0.0], [t, 1.0]]).double()
    share = _ratio(start @ change, start[:, 1:] * t)
    assert share > 0.3
    assert _beyond_linear(start, end, free) < 1e-12


def test_settings_of_flows_are_put_back() -> None:
    made = flow()
    with flows_as(made, steps=20, dt=0.1, run_as="free"):  # type: ignore[arg-type]
        assert (made.steps, made.dt, made.run_as) == (20, 0.1, "free")
    assert (made.steps, made.dt, made.run_as) == (2, 1.0, "flow")
