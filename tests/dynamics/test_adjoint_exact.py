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
    POTENTIALS,
    HamiltonianFlow,
    Lattice,
    LatticeCorrupted,
    LatticeOverflow,
    Potential,
    Shear,
    duration,
    schedule,
)
from phasebench.dynamics.adjoint_exact import adjoint_exact, advance, retreat
from phasebench.dynamics.gradients import transpose_kick
from phasebench.dynamics.lattice import HEADROOM, checksum

D, H = 6, 24
PLAIN = (0.3, 0.2, POTENTIALS["logcosh"])  # g, omega, sigma


def leaves(
    stiffness: float = 1.0, dtype: torch.dtype = torch.float32, batch: tuple[int, ...] = (2, 5)
) -> list[Tensor]:
    torch.manual_seed(2)
    shapes = [(*batch, D), (*batch, D), (H, D), (H,), (H,)]
    scales = [1.0, 1.0, stiffness, 1.0, 1.0]
    return [
        (torch.randn(s) * x).to(dtype).requires_grad_() for s, x in zip(shapes, scales, strict=True)
    ]


class _KeptShear(torch.autograd.Function):
    """One shear on the lattice that keeps its state; q and p carry the gradient, Q and P the value."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        p: Tensor,
        Q: Tensor,
        P: Tensor,
        W: Tensor,
        a: Tensor,
        b: Tensor,
        lattice: Lattice,
        shear: Shear,
        dtype: torch.dtype | None,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(lattice.q.decode(Q), W, a, b)
        ctx.plain = shear, dtype
        Q, P = advance(Q, P, lattice, Potential(W, a, b, *PLAIN).cast(dtype), [shear])
        Q, P = Q.clone(), P.clone()
        ctx.mark_non_differentiable(Q, P)
        return *lattice.decode(Q, P), Q, P

    @staticmethod
    def backward(ctx: Any, w: Tensor, v: Tensor, *_: Any) -> Any:  # pyright: ignore
        (q, W, a, b), (shear, dtype) = ctx.saved_tensors, ctx.plain
        if shear.kind == "drift":
            return w, v + shear.h * w, *[None] * 8
        sums = [torch.zeros_like(x) for x in (W, a, b)]
        _, w = transpose_kick(q, w, v, Potential(W, a, b, *PLAIN).cast(dtype), shear.h, sums)
        return w, v, None, None, *sums, None, None, None


def kept(
    q: Tensor,
    p: Tensor,
    W: Tensor,
    a: Tensor,
    b: Tensor,
    shears: list[Shear],
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Full backprop on the lattice: every state kept; autograd sums the shears' weight gradients from the last on."""
    lattice = Lattice.around(q, p, duration(shears), PLAIN[1])
    Q, P = lattice.encode(q, p)
    for shear in shears:
        q, p, Q, P = _KeptShear.apply(q, p, Q, P, W, a, b, lattice, shear, dtype)
    return q, p


def reconstructed(
    steps: int, dtype: torch.dtype | None, stiffness: float, integrator: str = "leapfrog"
) -> bool:
    q, p, W, a, b = (x.detach() for x in leaves(stiffness))
    V, shears = Potential(W, a, b, *PLAIN).cast(dtype), schedule(integrator, 0.1, steps)
    lattice = Lattice.around(q, p, duration(shears), PLAIN[1])
    start = lattice.encode(q, p)
    end = advance(*start, lattice, V, shears)
    assert not torch.equal(start[0], end[0])
    lattice.check()
    return all(
        torch.equal(x, y) for x, y in zip(start, retreat(*end, lattice, V, shears), strict=True)
    )


@pytest.mark.parametrize("steps", [1, 10, 100, 1000])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_reversal_is_exact_for_any_number_of_steps(steps: int, dtype: torch.dtype | None) -> None:
    assert reconstructed(steps, dtype, 1.0)


@pytest.mark.parametrize("stiffness", [2.0, 4.0, 8.0])
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_reversal_is_exact_however_stiff(stiffness: float, integrator: str) -> None:
    assert reconstructed(20, None, stiffness, integrator)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("integrator", ["leapfrog", "suzuki4", "blanes_moan6"])
def test_gradients_are_bitwise_those_of_full_backprop_on_the_lattice(
    integrator: str, dtype: torch.dtype | None
) -> None:
    steps, found = 7, []
    for exact in (True, False):
        inputs = leaves(2.0)
        if exact:
            V = Potential(*inputs[2:], *PLAIN, dtype)
            q, p = adjoint_exact(inputs[0], inputs[1], V, integrator, 0.1, steps)
        else:
            q, p = kept(*inputs, schedule(integrator, 0.1, steps), dtype)
        found.append([q, p, *torch.autograd.grad((q.sin() * p).sum(), inputs)])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_fifty_steps_of_training_end_at_the_same_weights() -> None:
    ends = []
    for exact in (True, False):
        q, p, *weights = leaves()
        optimizer = torch.optim.AdamW(weights, lr=1e-2)
        for _ in range(50):
            if exact:
                q1, p1 = adjoint_exact(q, p, Potential(*weights, *PLAIN), "leapfrog", 0.1, 5)
            else:
                q1, p1 = kept(q, p, *weights, schedule("leapfrog", 0.1, 5))
            optimizer.zero_grad()
            (q1.square().mean() + (p1 - 1).square().mean()).backward()
            optimizer.step()
        ends.append([x.detach().clone() for x in weights])
    assert all(torch.equal(x, y) for x, y in zip(*ends, strict=True))
    assert not torch.equal(ends[0][0], leaves()[2])


def flow(**kwargs: Any) -> HamiltonianFlow:
    torch.manual_seed(0)
    return HamiltonianFlow(D, H, **({"steps": 40, "dt": 0.1, "gradient": "adjoint_exact"} | kwargs))


def runaway(**kwargs: Any) -> tuple[HamiltonianFlow, Tensor, Tensor]:
    """A flow that leaves the lattice, which is chosen for free motion: a potential that throws the states far out."""
    ode = flow(steps=400, coupling=50.0, **kwargs)
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
    ode.W.data.mul_(1.5)  # .data: behind autograd's back
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
    q, p, W, a, b = leaves(batch=batch)
    q1, p1 = adjoint_exact(q, p, Potential(W, a, b, *PLAIN), "leapfrog", 0.1, 3)
    assert q1.shape == p1.shape == (*batch, D)
    (q1.sum() + p1.sum()).backward()
    assert W.grad is not None
    assert W.grad.isfinite().all()


def test_half_precision_states_come_back_in_half_precision() -> None:
    q, p, W, a, b = leaves()
    V = Potential(W, a, b, *PLAIN)
    q1, p1 = adjoint_exact(q.half(), p.half(), V, "leapfrog", 0.1, 3)
    assert q1.dtype == p1.dtype == torch.float16
    wide = adjoint_exact(q.half().float(), p.half().float(), V, "leapfrog", 0.1, 3)
    assert torch.equal(q1, wide[0].half())


def test_states_without_gradient_and_views() -> None:
    q, p, W, a, b = leaves()
    z = torch.cat((q, p), -1).detach()
    q1, _ = adjoint_exact(*z.chunk(2, -1), Potential(W, a, b, *PLAIN), "leapfrog", 0.1, 3)
    (dW,) = torch.autograd.grad(q1.sum(), W)
    q2, _ = adjoint_exact(q, p, Potential(W, a, b, *PLAIN), "leapfrog", 0.1, 3)
    assert torch.equal(q1, q2)
    assert torch.equal(dW, torch.autograd.grad(q2.sum(), W)[0])


def test_a_lattice_holds_its_range() -> None:
    lattice = Lattice.around(torch.tensor([3.0]), torch.tensor([0.5]), 4.0)  # free motion reaches 5
    assert 5.0 * HEADROOM / float(lattice.q.s) <= 2.0**30 < 5.0 * 2 * HEADROOM / float(lattice.q.s)
    assert Lattice.around(torch.zeros(2), torch.zeros(2), 1.0).q.s == 2.0**-26
    one = torch.ones(2, dtype=torch.float64)
    assert Lattice.around(one, one, 1.0).q.integer == torch.int64


def test_an_oscillator_s_momentum_has_room() -> None:
    at_rest = Lattice.around(
        torch.tensor([300.0]), torch.zeros(1), 1.0, omega=2.0
    )  # p will reach 600
    assert float(at_rest.p.s) * 2.0**30 >= 600


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
        ode = flow(steps=1000, gradient=method, coupling=0.002).to(dtype)
        torch.manual_seed(1)
        q, p, r = torch.randn(3, 20, D).to(dtype)
        found[method, dtype] = torch.autograd.grad((ode(q, p)[1] * r).sum(), ode.W)[0].double()
    exact = found["backprop", torch.float64]
    error = {key: (x - exact).norm() / exact.norm() for key, x in found.items()}
    assert error["adjoint_exact", torch.float32] < 10 * error["backprop", torch.float32]
