"""A table read at both ends: its one gradient, and the head's part left to the end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from phasebench.bench.vram.predict import predicting
from phasebench.models.cross_entropy import linear_cross_entropy
from phasebench.models.tied_table import Deferred, lookup

V, D = 11, 6


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    W = torch.randn(V, D, dtype=dtype, requires_grad=True)
    tokens, targets = torch.randint(V, (2, 7)), torch.randint(V, (14,))
    targets[::5] = -100
    return W, tokens, targets


def tied_gradient(W: Tensor, tokens: Tensor, targets: Tensor, *, chunk: int, defer: bool) -> Tensor:
    deferred = Deferred()
    z, head = lookup(W, tokens, deferred)
    z = z.flatten(0, 1).tanh()
    total = linear_cross_entropy(
        z, head.detach() if defer else head, targets, chunk, deferred if defer else None
    )
    (found,) = torch.autograd.grad(total / 9, W)
    assert not deferred.parts
    return found


@pytest.mark.parametrize("chunk", [1, 4, 14, 100])
@pytest.mark.parametrize("defer", [False, True])
def test_gradient_is_that_of_the_plain_model(chunk: int, defer: bool) -> None:
    W, tokens, targets = problem()
    z = F.embedding(tokens, W).flatten(0, 1).tanh()
    plain = F.cross_entropy(z @ W.T, targets, reduction="sum", ignore_index=-100)
    torch.testing.assert_close(
        tied_gradient(W, tokens, targets, chunk=chunk, defer=defer),
        torch.autograd.grad(plain / 9, W)[0],
    )


@pytest.mark.parametrize("chunk", [4, 100])
def test_a_deferred_gradient_has_the_same_bits(chunk: int) -> None:
    W, tokens, targets = problem(torch.float32)
    now, later = (
        tied_gradient(W, tokens, targets, chunk=chunk, defer=defer) for defer in (False, True)
    )
    assert torch.equal(now, later)


def test_without_a_head_the_gradient_is_the_lookup_s() -> None:
    W, tokens, _ = problem()
    z, _ = lookup(W, tokens, Deferred())
    (found,) = torch.autograd.grad(z.sin().sum(), W)
    torch.testing.assert_close(found, torch.autograd.grad(F.embedding(tokens, W).sin().sum(), W)[0])


def test_without_a_lookup_the_gradient_is_the_head_s() -> None:
    W, tokens, _ = problem()
    _, head = lookup(W, tokens, Deferred())
    (found,) = torch.autograd.grad(
        head.sum(), W
    )  # an expanded gradient, which cannot be added to in place
    assert torch.equal(found, torch.ones_like(W))


def test_one_gradient_of_the_table_exists_and_a_deferred_one_not_before_the_end() -> None:
    peaks = {}
    table = 40_000 * 64 * 4
    for defer in (False, True):
        with predicting() as tracker:
            W, tokens = (
                torch.nn.Parameter(torch.zeros(40_000, 64)),
                torch.zeros(1, 64, dtype=torch.int64),
            )
            deferred = Deferred()
            z, head = lookup(W, tokens, deferred)
            z = z.flatten(0, 1).tanh()
            loss = linear_cross_entropy(
                z, head.detach() if defer else head, tokens.flatten(), 8, deferred
            )
            (dz,) = torch.autograd.grad(loss, z, retain_graph=True)
            peaks[defer] = tracker.peak() / table
            del dz
            deferred.parts.clear()
            loss.backward()
            assert (
                tracker.peak() < 2.3 * table
            )  # the table and its gradient; logits of 8 tokens are 0.125
    assert peaks[True] < 1.3
