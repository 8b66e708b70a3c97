from __future__ import annotations

import pytest
import torch
from torch import Tensor

from phasebench.config import GRADIENTS as NAMES
from phasebench.dynamics import (
    GRADIENTS,
    INTEGRATORS,
    POTENTIALS,
    Problem,
    Schedule,
)
from problems import perceptron

D, H = 4, 9


def leaves(
    dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = (2, 3), D: int = D, H: int = H
) -> list[Tensor]:
    torch.manual_seed(1)
    shapes = [(*batch, D), (*batch, D), (H, D), (H,), (H,), (D,)]
    drawn = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    drawn[3] *= 0.3
    drawn[5] = drawn[5].div(2).exp()  # masses are positive
    return [x.to(dtype).requires_grad_() for x in drawn]


def flow(
    method: str,
    q: Tensor,
    p: Tensor,
    W: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    name: str = "gelu",
    steps: int = 5,
    integrator: str = "leapfrog",
    eps: float | None = 0.5,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    H = perceptron(W, a, b, c, name, eps, dtype)
    problem = Problem(H, Schedule(integrator, 0.1, steps))
    return GRADIENTS[method](q, p, problem)


def gradients(method: str, state: torch.dtype = torch.float64, **kwargs: object) -> list[Tensor]:
    inputs = leaves(state)
    q, p = flow(method, *inputs, **kwargs)
    loss = (q.sin() + p.cos() * 2).sum()
    return list(torch.autograd.grad(loss, inputs))


def test_the_configuration_offers_exactly_the_table() -> None:
    assert set(NAMES) == set(GRADIENTS)


@pytest.mark.parametrize(
    ("name", "eps"), [*((name, 0.5) for name in POTENTIALS), ("gelu", 0.05), ("gelu", None)]
)
@pytest.mark.parametrize("method", GRADIENTS)
def test_gradcheck(method: str, name: str, eps: float | None) -> None:
    assert torch.autograd.gradcheck(
        lambda *x: flow(method, *x, name=name, eps=eps, steps=2), leaves(batch=(2,), D=3, H=4)
    )


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("method", GRADIENTS)
def test_every_method_agrees_with_float64_autograd(method: str, integrator: str) -> None:
    reference = gradients("autograd", integrator=integrator)
    torch.testing.assert_close(
        gradients(method, integrator=integrator), reference, rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("method", GRADIENTS)
def test_float32_gradients_are_those_of_float64_to_rounding(method: str) -> None:
    for found, wanted in zip(
        gradients(method, torch.float32, steps=10), gradients("autograd", steps=10), strict=True
    ):
        assert (found.double() - wanted).norm() / wanted.norm() < 1e-6


@pytest.mark.parametrize("method", GRADIENTS)
def test_bf16_forces_keep_the_state_and_the_gradients_in_float32(method: str) -> None:
    q, p = flow(method, *leaves(torch.float32), dtype=torch.bfloat16)
    assert q.dtype == p.dtype == torch.float32
    found = gradients(method, torch.float32, dtype=torch.bfloat16)
    for g, wanted in zip(found, gradients("autograd"), strict=True):
        assert g.dtype == torch.float32
        assert 1e-6 < (g.double() - wanted).norm() / wanted.norm() < 0.05


@pytest.mark.parametrize("method", GRADIENTS)
def test_non_contiguous_states(method: str) -> None:
    z = torch.randn(2, 3, 2 * D, dtype=torch.float64, requires_grad=True)
    _, _, *parameters = leaves()
    grads = []
    for q, p in (z.chunk(2, -1), [x.contiguous() for x in z.chunk(2, -1)]):
        out = flow(method, q, p, *parameters)
        grads.append(torch.autograd.grad((out[0] * out[1]).sum(), z)[0])
    torch.testing.assert_close(*grads)


def test_the_adjoint_refuses_a_second_derivative() -> None:
    inputs = leaves()
    q, p = flow("adjoint", *inputs)
    (first,) = torch.autograd.grad((q * p).sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def held_bytes(method: str, steps: int) -> int:
    saved: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        flow(method, *leaves(), steps=steps)
    return sum(saved.values())


def test_checkpoints_keep_a_state_a_step_or_a_square_root_of_them() -> None:
    held = {m: held_bytes(m, 100) for m in ("checkpoint_sqrt", "checkpoint", "backprop")}
    assert held["checkpoint_sqrt"] < held["checkpoint"] / 4 < held["backprop"] / 8
    assert held_bytes("checkpoint_sqrt", 400) < 2.5 * held["checkpoint_sqrt"]


def test_the_adjoint_keeps_nothing_but_the_end() -> None:
    assert held_bytes("adjoint", 1) == held_bytes("adjoint", 300)
    assert held_bytes("backprop", 300) > 100 * held_bytes("adjoint", 300)
