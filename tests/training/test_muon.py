"""Muon's step against the singular value decomposition, torch's own, and complex arithmetic."""

from __future__ import annotations

import pytest
import torch

from phasebench.training.muon import RMS, MuonAdamW, direction, is_matrix, polar


def spectrum(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(matrix.double())


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    G = torch.randn(3, *shape)
    X = polar(G)
    U, _, V = torch.linalg.svd(G, full_matrices=False)
    assert spectrum(X).min() > 0.6
    assert spectrum(X).max() < 1.3
    cosine = ((U @ V) * X.float()).sum((-2, -1)) / X.float().norm(dim=(-2, -1)) / min(shape) ** 0.5
    assert cosine.min() > 0.97


def test_a_step_is_as_large_as_adamw_s() -> None:
    step = direction(torch.randn(2, 64, 48))
    assert step.square().mean().sqrt().item() == pytest.approx(RMS * 0.9, rel=0.25)


def test_complex_steps_are_those_of_complex_matrices() -> None:
    A, B = torch.randn(2, 1, 6, 6)
    step = direction(torch.stack((A, B), 1))[0]
    U, _, V = torch.linalg.svd(torch.complex(A[0], B[0]), full_matrices=False)
    wanted = U @ V
    found = torch.complex(*step.float())
    cosine = (found.conj() * wanted).sum().real / found.norm() / wanted.norm()
    assert cosine > 0.97


@pytest.mark.parametrize("shape", [(18, 6), (6, 18), (2, 18, 6)])
def test_queries_keys_and_values_are_stepped_apart(shape: tuple[int, ...]) -> None:
    G = torch.randn(1, *shape)
    axis = -2 if shape[-2] == 18 else -1
    apart = [direction(part) for part in G.chunk(3, axis)]
    torch.testing.assert_close(direction(G), torch.cat(apart, axis), rtol=0.02, atol=1e-3)


def test_it_is_torch_s_muon_on_a_real_matrix() -> None:
    ours, theirs = (torch.nn.Parameter(torch.ones(6, 10)) for _ in range(2))
    mine = MuonAdamW([{"params": [ours], "muon": True, "weight_decay": 0.3}], lr=0.01)
    lib = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        ours.grad = torch.randn(6, 10)
        theirs.grad = ours.grad.clone()
        mine.step()
        lib.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


def test_the_other_parameters_are_adamw_s() -> None:
    torch.manual_seed(0)
    vectors = [torch.nn.Parameter(torch.ones(5)) for _ in range(2)]
    matrix = torch.nn.Parameter(torch.randn(4, 4))
    mine = MuonAdamW(
        [{"params": [matrix], "muon": True}, {"params": [vectors[0]]}], lr=0.1, weight_decay=0.2
    )
    lib = torch.optim.AdamW([vectors[1]], lr=0.1, weight_decay=0.2)
    for _ in range(3):
        matrix.grad = torch.randn(4, 4)
        for vector in vectors:
            vector.grad = torch.arange(5.0)
        mine.step()
        lib.step()
    assert torch.equal(*vectors)
    assert set(mine.state[matrix]) == {"step", "momentum"}


def test_what_is_a_matrix() -> None:
    shapes = {(3, 4): True, (2, 3, 4): True, (3, 3, 4): False, (5,): False}
    assert {shape: is_matrix(torch.zeros(shape)) for shape in shapes} == shapes
