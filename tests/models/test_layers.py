from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from phasebench.models.attention import CausalAttention, rotary_phases
from phasebench.models.cross_entropy import linear_cross_entropy
from phasebench.models.layers import (
    BLANK,
    ComplexDropout,
    ComplexEmbedding,
    ComplexLinear,
    ComplexNorm,
    ModReLU,
)


def as_complex(z: Tensor) -> Tensor:
    return torch.complex(*z.chunk(2, -1))


def as_real(z: Tensor) -> Tensor:
    return torch.cat((z.real, z.imag), -1)


def turn(z: Tensor, phi: float) -> Tensor:
    return as_real(as_complex(z) * complex(math.cos(phi), math.sin(phi)))


def test_complex_linear_is_the_complex_product() -> None:
    layer, z = ComplexLinear(3, 5).double(), torch.randn(2, 4, 6, dtype=torch.float64)
    weight = torch.complex(*layer.weight)
    torch.testing.assert_close(as_complex(layer(z)), as_complex(z) @ weight.T)


def test_complex_linear_keeps_the_mean_square() -> None:
    z = torch.randn(512, 512)
    assert ComplexLinear(256, 256)(z).square().mean().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "layer",
    [
        ComplexLinear(8, 8),
        ModReLU(8),
        ComplexNorm(8),
        CausalAttention(8, 2, rope_base=100.0, out_gain=1.0),
    ],
    ids=lambda m: type(m).__name__,
)
@given(phi=st.floats(-3.2, 3.2))
@settings(deadline=None, max_examples=10)
def test_phase_equivariance(layer: torch.nn.Module, phi: float) -> None:
    z = torch.randn(2, 5, 16, dtype=torch.float64)
    layer = layer.double()
    torch.testing.assert_close(layer(turn(z, phi)), turn(layer(z), phi), rtol=1e-5, atol=1e-6)


def test_norm_sets_the_mean_square_modulus_to_one() -> None:
    z = ComplexNorm(64)(7 * torch.randn(3, 128))
    torch.testing.assert_close(
        as_complex(z).abs().square().mean(-1), torch.ones(3), atol=1e-4, rtol=0
    )


def test_modrelu_cuts_small_moduli_and_keeps_phases() -> None:
    layer = ModReLU(2)
    z = as_real(torch.tensor([[0.05 + 0.0j, 3.0 + 4.0j]]))
    torch.testing.assert_close(
        as_complex(layer(z)), torch.tensor([[0j, (3 + 4j) * 4.9 / 5]]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("b", [-0.1, 0.5])
def test_modrelu_is_differentiable_at_zero(b: float) -> None:
    layer, z = ModReLU(2), torch.zeros(1, 4, requires_grad=True)
    layer.b.data.fill_(b)
    layer(z).sum().backward()
    assert z.grad is not None
    assert z.grad.abs().max() <= max(0.0, b) * 1.01e3


def test_rotary_scores_depend_on_the_distance_only() -> None:
    cos, sin = rotary_phases(20, 4, 100.0, torch.device("cpu"))
    q, k = torch.randn(4, dtype=torch.complex64), torch.randn(4, dtype=torch.complex64)
    phase = torch.complex(cos, sin)
    scores = torch.einsum("td,sd->ts", q * phase, (k * phase).conj()).real
    torch.testing.assert_close(scores[3, 1], scores[15, 13])
    assert (scores[3, 1] - scores[3, 2]).abs() > 1e-3


def test_attention_is_the_complex_softmax_average() -> None:
    layer, z = CausalAttention(4, 1, rope_base=1e9, out_gain=1.0), torch.randn(1, 3, 8)
    q, k, v = as_complex(layer.qkv(z)).view(3, 3, 4).unbind(1)
    phase = torch.complex(*rotary_phases(3, 4, 1e9, z.device))
    scores = ((q * phase) @ (k * phase).mH).real / 8**0.5
    weights = scores.masked_fill(torch.ones(3, 3).triu(1).bool(), -math.inf).softmax(-1)
    torch.testing.assert_close(
        layer(z)[0], layer.out(as_real(weights.to(v.dtype) @ v)), rtol=1e-4, atol=1e-5
    )


def test_dropout_drops_both_parts_of_a_channel() -> None:
    z = ComplexDropout(0.5)(torch.ones(4, 200))
    x, y = z.chunk(2, -1)
    assert torch.equal(x, y)
    assert set(z.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(ComplexDropout(0.5).eval()(torch.ones(4, 8)), torch.ones(4, 8))


def test_embedding_dropout_drops_word_types() -> None:
    z = ComplexEmbedding(10, 4, rate=0.5)(torch.arange(10).repeat(3, 1))
    assert torch.equal(z[0], z[1])
    dropped = (z[0] == BLANK).all(-1)
    assert 0 < dropped.sum() < 10
    kept = [i for i in range(10) if not dropped[i]]
    layer = ComplexEmbedding(10, 4, rate=0.5)
    assert all((z[0, i] != BLANK).any() for i in kept)
    assert torch.equal(layer.eval()(torch.arange(10)[None])[0], layer.weight)


@given(st.integers(1, 40), st.integers(1, 50), st.booleans())
@settings(deadline=None, max_examples=30)
def test_chunked_loss_is_the_plain_one(n: int, chunk: int, ignore: bool) -> None:
    torch.manual_seed(n)
    z, weight = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((n, 6), (9, 6)))
    targets = torch.randint(0, 9, (n,))
    if ignore:
        targets[::3] = -100
    plain = F.cross_entropy(z @ weight.T, targets, reduction="sum", ignore_index=-100)
    chunked = linear_cross_entropy(z, weight, targets, chunk)
    torch.testing.assert_close(chunked, plain, check_dtype=False)
    torch.testing.assert_close(
        torch.autograd.grad(chunked, (z, weight)), torch.autograd.grad(plain, (z, weight))
    )
