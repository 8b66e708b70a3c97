"""The pyramid against a plain sum over nodes, causality bit for bit, generation by the counter."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phasebench.models.mera import Pyramid

KINDS = list(itertools.product((False, True), (False, True)))  # unitary, lagged


def pyramid(unitary: bool = False, lagged: bool = False) -> Pyramid:
    made = Pyramid(6, 4, 2, out_gain=1.0, unitary=unitary, lagged=lagged)
    with torch.no_grad():
        made.lev.normal_()
    return made


def plain(layer: Pyramid, n: torch.Tensor) -> torch.Tensor:
    """y of the pool gate: every node is the softmax-weighted mean of its leaves, read by loops."""
    leaves, scores, lev = layer._heads(layer.V(n)), layer.key(n), layer.lev.view(2, -1)
    q, rows = layer._heads(layer.Q(n)), []
    for t in range(n.shape[1]):
        terms, values = [], []
        for level in range(int(math.log2(t + 1)) + 1):
            end = (t + 1) // 2**level * 2**level
            block = slice(end - 2**level, end)
            weights = torch.softmax(scores[:, block], 1)[..., None, None]
            node = (weights * leaves[:, block]).sum(1, keepdim=True)
            key = layer._heads(layer.K(layer._flat(node))) / (2 * layer.d) ** 0.5
            bias = lev[1] * level + (lev[0] if level == 0 else 0.0)
            terms.append((q[:, t : t + 1] * key).sum((-1, -2)) + bias)
            values.append(node)
        weight = torch.softmax(torch.stack(terms), 0)[..., None, None]
        rows.append((weight * torch.stack(values)).sum(0))
    return layer.O(layer._flat(torch.cat(rows, 1)))


@pytest.mark.parametrize("length", [1, 2, 3, 8, 13])
def test_pooled_nodes_are_weighted_means_of_their_tokens(length: int) -> None:
    layer, n = pyramid().double(), torch.randn(2, length, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(n), plain(layer, n))


@settings(max_examples=12, deadline=None)
@given(length=st.integers(2, 40), place=st.integers(0, 39), kind=st.sampled_from(KINDS))
def test_a_token_changes_nothing_before_it(
    length: int, place: int, kind: tuple[bool, bool]
) -> None:
    place %= length
    layer, n = pyramid(*kind), torch.randn(1, length, 12)
    changed = n.clone()
    changed[:, place] += 1.0
    before, after = layer(n), layer(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place], after[:, place])


@pytest.mark.parametrize("lagged", [False, True])
def test_every_token_reaches_the_last_one(lagged: bool) -> None:
    layer = pyramid(False, lagged)
    n = torch.randn(1, 21, 12, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(n)[0, -1].square().sum(), n)
    assert (slope[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_token_after_the_other_gives_the_whole(kind: tuple[bool, bool]) -> None:
    layer, n, past = pyramid(*kind), torch.randn(2, 37, 12), {}
    rows = [layer(n[:, t : t + 1], past) for t in range(37)]
    torch.testing.assert_close(torch.cat(rows, 1), layer(n), rtol=1e-5, atol=1e-5)
    assert kind[1] or len(past["last"]) == 6


def test_no_copy_of_a_node_for_a_token_is_kept() -> None:
    """Of all scales together, autograd keeps a few numbers a token beside the sums and queries."""
    layer, n, kept = pyramid(), torch.randn(1, 256, 12), {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.update({x.untyped_storage().data_ptr(): x}) or x, lambda x: x
    ):
        y = layer(n)
    assert y.requires_grad
    numbers = sum(x.untyped_storage().nbytes() // 4 for x in kept.values())
    assert numbers < 256 * 2 * 4 * 20  # tokens x numbers of a node x 20; 9 scales x 4 with copies


def test_the_channel_is_unitary() -> None:
    U = pyramid(True).double().channel()
    assert U is not None
    one = torch.eye(U.shape[-1], dtype=U.dtype).expand_as(U)
    torch.testing.assert_close(U.mT @ U, one)


def test_parameters_are_counted_as_designed() -> None:
    D, Dm, h = 256, 128, 8
    counted = sum(x.numel() for x in Pyramid(D, Dm, h, out_gain=1.0).parameters())
    assert counted == 6 * D * Dm + 2 * Dm**2 + 2 * D * h + 2 * h
