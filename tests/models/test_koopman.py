"""The memory against its recurrence, its gradient against autograd, causality bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.dynamics.gpu import launch as gpu
from phasebench.models import koopman
from phasebench.models.koopman import KoopmanMemory, _Accumulate, accumulate

UNITARY = (False, True)


def memory(unitary: bool = False, dim: int = 6) -> KoopmanMemory:
    made = KoopmanMemory(dim, span=32, unitary=unitary).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made


def recurrence(layer: KoopmanMemory, n: torch.Tensor) -> torch.Tensor:
    """n' by complex arithmetic, one token after the other; differentiated by autograd."""
    z = torch.complex(*n.chunk(2, -1))
    decay, angle, e = layer.operator()
    lam = torch.exp(torch.complex(-decay, angle))
    m, rows = torch.zeros_like(z[:, 0]), []
    for t in range(z.shape[1]):
        m = lam * m + e * z[:, t]
        seen = m / (t + 1) ** 0.5 if layer.unitary else m
        rows.append(layer.s * z[:, t] + torch.complex(*layer.c.chunk(2)) * seen)
    out = torch.stack(rows, 1)
    return torch.cat((out.real, out.imag), -1)


@pytest.mark.parametrize("unitary", UNITARY)
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_values_and_gradients_are_the_recurrence_s(unitary: bool, length: int) -> None:
    layer, n = memory(unitary), torch.randn(3, length, 12, dtype=torch.float64)
    weights = torch.randn(3, length, 12, dtype=torch.float64)
    inputs = [n.requires_grad_(), *layer.parameters()]
    ours, theirs = layer(n), recurrence(layer, n)
    torch.testing.assert_close(ours, theirs)
    found = torch.autograd.grad((ours * weights).sum(), inputs, allow_unused=True)
    wanted = torch.autograd.grad((theirs * weights).sum(), inputs, allow_unused=True)
    for one, other in zip(found, wanted, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other)


@settings(max_examples=10, deadline=None)
@given(length=st.integers(2, 70), place=st.integers(0, 69), unitary=st.booleans())
def test_what_follows_changes_no_bit(length: int, place: int, unitary: bool) -> None:
    place %= length
    layer, n = memory(unitary).float(), torch.randn(2, length, 12)
    changed = n.clone()
    changed[:, place] += 1.0
    whole = layer(n)
    assert torch.equal(whole[:, :place], layer(changed)[:, :place])
    assert torch.equal(whole[:, : place + 1], layer(n[:, : place + 1]))


@pytest.mark.parametrize("unitary", UNITARY)
def test_parts_of_a_sequence_one_after_the_other_give_the_whole(unitary: bool) -> None:
    layer, n, past = memory(unitary), torch.randn(2, 33, 12, dtype=torch.float64), {}
    rows = [layer(part, past) for part in n.split((1, 1, 20, 11), 1)]
    torch.testing.assert_close(torch.cat(rows, 1), layer(n))


def test_the_sum_keeps_its_input_only() -> None:
    layer, kept = memory(), []
    decay, angle, _ = layer.operator()
    u = torch.randn(2, 64, 12, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        m = _Accumulate.apply(u, decay.detach(), angle.detach())
    assert m.requires_grad
    assert [x.data_ptr() for x in kept if x.shape == u.shape] == [u.data_ptr()]


def test_a_damped_operator_forgets_and_keeps_the_size_of_noise() -> None:
    layer, noise = KoopmanMemory(64, span=8), torch.randn(1, 4096, 128)
    decay, angle, e = layer.operator()
    m = accumulate(noise * e.repeat(2), decay, angle).detach()
    assert m[:, 256:].square().mean().item() == pytest.approx(1.0, rel=0.1)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cpu":
        if torch.cuda.is_available():
            pytest.skip("the kernel runs on the GPU of this machine")
        pytest.importorskip("triton", reason="Triton is not installed")
        monkeypatch.setattr(gpu, "INTERPRETED", True)
    for name, size in (("ROWS", 8), ("BLOCK", 4)):  # several of each, the last not full
        monkeypatch.setattr(koopman, name, size)
    return request.param


@pytest.mark.parametrize("unitary", UNITARY)
@pytest.mark.parametrize("length", [1, 8, 19])
def test_the_kernel_agrees_with_float64(device: str, unitary: bool, length: int) -> None:
    wide, n = memory(unitary), torch.randn(2, length, 12, dtype=torch.float64)
    layer, weights = copy.deepcopy(wide).float().to(device), torch.randn_like(n)
    results = []
    for own, x in ((wide, n), (layer, n.float().to(device))):
        y = own(x.requires_grad_())
        inputs = [x, own.th, own.s, own.c]
        slopes = torch.autograd.grad((y * weights.to(y)).sum(), inputs)
        results.append([each.double().cpu() for each in (y, *slopes)])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_what_follows_changes_no_bit_of_the_kernel_s(device: str) -> None:
    layer, n = memory().float().to(device), torch.randn(1, 21, 12, device=device)
    changed = n.clone()
    changed[:, 10] += 1.0
    with torch.no_grad():
        whole, other = layer(n), layer(changed)
    assert torch.equal(whole[:, :10], other[:, :10])
    assert torch.equal(whole[:, :11], layer(n[:, :11]))
    assert not torch.equal(whole[:, 10:], other[:, 10:])
