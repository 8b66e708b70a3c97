"""The lattice adjoint: reversal and gradients compared with `torch.equal`, not to a tolerance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from phasebench.dynamics import (
    INTEGRATORS,
    HamiltonianFlow,
    Lattice,
    LatticeCorrupted,
    LatticeOverflow,
    Problem,
    Schedule,
    Shear,
)
from phasebench.dynamics.adjoint import transpose_drift, transpose_kick
from phasebench.dynamics.adjoint_exact import (
    adjoint_exact,
    advance,
    lattice_of,
    round_trip,
)
from phasebench.dynamics.lattice import HEADROOM, checksum
from problems import perceptron, perceptron_flow

D, H = 6, 24


def leaves(
    stiffness: float = 1.0, dtype: torch.dtype = torch.float32, batch: tuple[int, ...] = (2, 5)
) -> list[Tensor]:
    torch.manual_seed(2)
    shapes = [(*batch, D), (*batch, D), (H, D), (H,), (H,), (D,)]
    scales = [1.0, 1.0, stiffness, 0.1, 1.0, 0.5]
    drawn = [torch.randn(s) * x for s, x in zip(shapes, scales, strict=True)]
    drawn[5] = drawn[5].exp()  # masses are positive
    return [x.to(dtype).requires_grad_() for x in drawn]


def problem(
    *weights: Tensor,
    integrator: str = "leapfrog",
    steps: int = 3,
    eps: float | None = 0.25,
    dtype: torch.dtype | None = None,
) -> Problem:
    H = perceptron(*weights, "gelu_integral", eps, dtype)
    return Problem(H, Schedule(integrator, 0.1, steps))


class _KeptShear(torch.autograd.Function):
    """One shear on the lattice that keeps its state; q, p carry the gradient, Q and P the value."""

    @staticmethod
    def forward(
        ctx: Any,
        made: Problem,
        lattice: Lattice,
        shear: Shear,
        q: Tensor,
        p: Tensor,
        Q: Tensor,
        P: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*lattice.decode(Q, P), *weights)
        ctx.plain = made, shear
        Q, P = (x.clone() for x in advance(Q, P, lattice, made.H.cast(), [shear]))
        ctx.mark_non_differentiable(Q, P)
        return *lattice.decode(Q, P), Q, P

    @staticmethod
    def backward(ctx: Any, w: Tensor, v: Tensor, *_: Any) -> Any:  # pyright: ignore
        (q, p, *weights), (made, shear) = ctx.saved_tensors, ctx.plain
        H, sums = made.H.cast(weights), [torch.zeros_like(x) for x in weights]
        if shear.kind == "drift":
            v = transpose_drift(p, w, v, H, shear.h, sums)
        else:
            _, w = transpose_kick(q, w, v, H, shear.h, sums)
        return None, None, None, w, v, None, None, *sums


def kept(q: Tensor, p: Tensor, made: Problem) -> tuple[Tensor, Tensor]:
    """Full backprop on the lattice: every state kept, weight gradients summed from the last on."""
    lattice = lattice_of(q, p, made)
    Q, P = lattice.encode(q, p)
    for shear in made.schedule.shears:
        q, p, Q, P = _KeptShear.apply(made, lattice, shear, q, p, Q, P, *made.H.weights)
    return q, p


def reconstructed(stiffness: float, **options: Any) -> bool:
    q, p, *weights = (x.detach() for x in leaves(stiffness))
    made = problem(*weights, **options)
    lattice, (start, back) = lattice_of(q, p, made), round_trip(q, p, made)
    end = advance(*start, lattice, made.H.cast(), made.schedule.shears)
    assert not torch.equal(start[0], end[0])
    lattice.check()
    return torch.equal(start, back)


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_reversal_is_exact_for_any_number_of_steps(steps: int, dtype: torch.dtype | None) -> None:
    assert reconstructed(1.0, steps=steps, dtype=dtype)


@pytest.mark.parametrize("stiffness", [2.0, 4.0, 8.0])
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_reversal_is_exact_however_stiff(stiffness: float, integrator: str) -> None:
    assert reconstructed(stiffness, steps=20, integrator=integrator)


def test_reversal_is_exact_without_the_norm_too() -> None:
    assert reconstructed(1.0, steps=5, eps=None)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("integrator", ["leapfrog", "suzuki4", "blanes_moan6"])
def test_gradients_are_bitwise_those_of_full_backprop_on_the_lattice(
    integrator: str, dtype: torch.dtype | None
) -> None:
    steps, found = 7, []
    for exact in (True, False):
        inputs = leaves(2.0)
        made = problem(*inputs[2:], integrator=integrator, steps=steps, dtype=dtype)
        q, p = (adjoint_exact if exact else kept)(inputs[0], inputs[1], made)
        found.append([q, p, *torch.autograd.grad((q.sin() * p).sum(), inputs)])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_fifty_steps_of_training_end_at_the_same_weights() -> None:
    ends = []
    for exact in (True, False):
        q, p, *weights = leaves()
        optimizer = torch.optim.AdamW(weights, lr=1e-2)
        for _ in range(50):
            made = problem(*weights, steps=5)
            q1, p1 = (adjoint_exact if exact else kept)(q, p, made)
            optimizer.zero_grad()
            (q1.square().mean() + (p1 - 1).square().mean()).backward()
            optimizer.step()
        ends.append([x.detach().clone() for x in weights])
    assert all(torch.equal(x, y) for x, y in zip(*ends, strict=True))
    assert not torch.equal(ends[0][0], leaves()[2])


def flow(**kwargs: Any) -> HamiltonianFlow:
    torch.manual_seed(0)
    plain = {"steps": 40, "dt": 0.1, "gradient": "adjoint_exact", "integrator": "leapfrog"}
    return perceptron_flow(D, H, **(plain | kwargs))


def runaway(**kwargs: Any) -> tuple[HamiltonianFlow, Tensor, Tensor]:
    """A flow that leaves its lattice, which is made for forces of order one."""
    ode = flow(steps=40, coupling=300.0, eps=None, potential="gelu", **kwargs)
    return ode, torch.randn(1, 3, D, requires_grad=True), torch.randn(1, 3, D, requires_grad=True)


def test_overflow_is_an_error() -> None:
    ode, q, p = runaway()
    with pytest.raises(LatticeOverflow, match="beyond the lattice"):
        ode(q, p)


def test_overflow_falls_back_as_told_and_is_counted() -> None:
    ode, q, p = runaway(on_overflow="checkpoint")
    got = torch.autograd.grad(ode(q, p)[0].sum(), (q, *ode.parameters()))
    assert ode.overflows == 1
    ode.gradient = "backprop"
    wanted = torch.autograd.grad(ode(q, p)[0].sum(), (q, *ode.parameters()))
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_states_that_are_not_finite_are_an_overflow(bad: float) -> None:
    q, p = torch.zeros(1, 2, D), torch.ones(1, 2, D)
    q[0, 0, 0] = bad
    with pytest.raises(LatticeOverflow):
        flow()(q, p)


def test_weights_that_change_before_the_backward_pass_are_noticed() -> None:
    ode = flow()
    q, p = (torch.randn(2, 3, D, requires_grad=True) for _ in range(2))
    loss = ode(q, p)[0].sum()
    ode.potential.W.data.mul_(1.5)  # .data: behind autograd's back
    with pytest.raises(LatticeCorrupted, match="does not end at its start"):
        loss.backward()


@given(st.integers(0, 29), st.integers(0, 7))
@settings(deadline=None, max_examples=30)
def test_the_checksum_sees_one_bit(bit: int, place: int) -> None:
    Q, P = torch.arange(8, dtype=torch.int32), torch.arange(8, 16, dtype=torch.int32)
    other = Q.clone()
    other[place] ^= 1 << bit
    assert checksum(Q, P) != checksum(other, P)
    assert checksum(Q, P) != checksum(P, Q)


@pytest.mark.parametrize("batch", [(), (4,), (0, 3), (2, 3, 4)])
def test_any_shape_of_batch(batch: tuple[int, ...]) -> None:
    q, p, W, *others = leaves(batch=batch)
    q1, p1 = adjoint_exact(q, p, problem(W, *others))
    assert q1.shape == p1.shape == (*batch, D)
    (q1.sum() + p1.sum()).backward()
    assert W.grad is not None
    assert W.grad.isfinite().all()


def test_half_precision_states_come_back_in_half_precision() -> None:
    q, p, *weights = leaves()
    made = problem(*weights)
    q1, p1 = adjoint_exact(q.half(), p.half(), made)
    assert q1.dtype == p1.dtype == torch.float16
    wide = adjoint_exact(q.half().float(), p.half().float(), made)
    assert torch.equal(q1, wide[0].half())


def test_states_without_gradient_and_views() -> None:
    q, p, W, *others = leaves()
    made = problem(W, *others)
    z = torch.cat((q, p), -1).detach()
    q1, _ = adjoint_exact(*z.chunk(2, -1), made)
    (dW,) = torch.autograd.grad(q1.sum(), W)
    q2, _ = adjoint_exact(q, p, made)
    assert torch.equal(q1, q2)
    assert torch.equal(dW, torch.autograd.grad(q2.sum(), W)[0])


def test_a_lattice_holds_its_range() -> None:
    lattice = Lattice.around(torch.tensor([3.0]), torch.tensor([2.0]), 4.0)  # free motion: 11
    assert 11 * HEADROOM / float(lattice.q.s) <= 2.0**30 < 11 * 2 * HEADROOM / float(lattice.q.s)
    one = torch.ones(2, dtype=torch.float64)
    assert Lattice.around(one, one, 1.0).q.integer == torch.int64


def test_a_state_at_rest_has_room_to_be_kicked() -> None:
    at_rest = Lattice.around(torch.zeros(2), torch.zeros(2), 1.0)
    assert float(at_rest.p.s) * 2.0**30 >= 30


def test_a_light_channel_has_room_to_move() -> None:
    q, p, W, a, b, c = (x.detach() for x in leaves())
    light, heavy = (lattice_of(q, p, problem(W, a, b, c * x)).q.s for x in (8, 1))
    assert (light >= 4 * heavy).any()


def test_a_token_s_lattice_is_its_own() -> None:
    s = Lattice.around(torch.tensor([[3.0], [300.0]]), torch.zeros(2, 1), 4.0).q.s
    assert s.shape == (2, 1)
    assert s[1] > 50 * s[0]


def test_a_long_flow_is_as_accurate_as_in_floating_point() -> None:
    found = {}
    for method, dtype in (
        ("backprop", torch.float64),
        ("backprop", torch.float32),
        ("adjoint_exact", torch.float32),
    ):
        ode = flow(steps=1000, gradient=method).to(dtype)
        torch.manual_seed(1)
        q, p, r = torch.randn(3, 20, D).to(dtype)
        found[method, dtype] = torch.autograd.grad((ode(q, p)[1] * r).sum(), ode.potential.W)[
            0
        ].double()
    exact = found["backprop", torch.float64]
    error = {key: (x - exact).norm() / exact.norm() for key, x in found.items()}
    assert error["adjoint_exact", torch.float32] < 10 * error["backprop", torch.float32]
