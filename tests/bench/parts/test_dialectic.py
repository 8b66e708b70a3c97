"""The time-reversed flow and its judge on cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from phasebench.bench.parts.dialectic import (
    auroc,
    disagreement,
    disagreements,
    gain,
    logistic,
)
from phasebench.config import ModelConfig
from phasebench.dynamics import HamiltonianFlow, PerceptronPotential
from phasebench.models import build_model


def flow(coupling: float, dt: float = 0.5) -> HamiltonianFlow:
    torch.manual_seed(0)
    potential = PerceptronPotential.random(4, 8, coupling=coupling)
    return HamiltonianFlow(potential, steps=2, dt=dt).double()


def test_free_motion_does_not_disagree_and_a_force_does_by_its_square_of_time() -> None:
    q, p = torch.randn(2, 5, 4, dtype=torch.float64)
    assert disagreement(flow(0.0), q, p).abs().max() < 1e-14
    long, short = (disagreement(flow(1.0, dt), q, p) for dt in (0.02, 0.01))
    assert long.shape == (5,)
    torch.testing.assert_close(long / short, torch.full_like(long, 4.0), rtol=1e-3, atol=0)
    own = flow(1.0)
    # x'' = (c F, dF/dt), dF/dt = -V''(q) c p
    F, rate, _ = own.hamiltonian(torch.float64).cast().potential.adjoint(q, p)
    wanted = torch.cat((F, -rate), -1).norm(dim=-1)
    torch.testing.assert_close(short / (2 * 0.01) ** 2, wanted, rtol=1e-3, atol=0)


def test_back_in_time_is_forwards_with_momenta_turned() -> None:
    own = flow(1.0)
    q, p = torch.randn(2, 5, 4, dtype=torch.float64)
    (q1, p1), (q2, p2) = own(q, p), own(q, -p)
    second = torch.cat((q1 + q2 - 2 * q, p1 - p2 - 2 * p), -1)
    with torch.no_grad():
        torch.testing.assert_close(
            disagreement(own, q, p), second.norm(dim=-1), rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("name", ["stage2", "stage3"])
def test_scored_tokens_of_a_model_have_a_disagreement_each(name: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(name=name, dim=8, blocks=2, heads=2, hidden=8)
    model = build_model(config, 11)
    tokens = torch.randint(11, (2, 6))
    targets = torch.tensor([[3, 4, -100, 1, 2, 3], [-100, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        model.flows[0].potential = PerceptronPotential.random(8, 8, coupling=0.0)
        d = disagreements(model, [(tokens, targets)], torch.device("cpu"), "fp32")
        assert d.shape == (10,)
        assert d.min() > 1e-3  # of the last block
        model.flows[1].potential = PerceptronPotential.random(8, 8, coupling=0.0)
        d = disagreements(model, [(tokens, targets)], torch.device("cpu"), "fp32")
        assert d.max() < 1e-5
    assert model.training


def test_auroc_is_the_chance_that_a_wrong_one_scores_higher() -> None:
    score, wrong = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert auroc(score, wrong) == 0.75
    assert auroc(np.zeros(4), wrong) == 0.5
    assert auroc(-score, wrong) == 0.25
    assert auroc(score, np.ones(4, bool)) is None
    random = np.random.default_rng(0)
    score, wrong = random.integers(0, 5, 60) / 1.0, random.random(60) < 0.4
    pairs = score[wrong][:, None] - score[~wrong]
    assert auroc(score, wrong) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_the_weights_that_made_the_answers_are_found() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((40_000, 2)) * [1.0, 100.0] + [3.0, 500.0]
    u = 0.5 * (x[:, 0] - 3) - 0.02 * (x[:, 1] - 500) + 0.3
    wrong = random.random(len(x)) < 1 / (1 + np.exp(-u))
    assert logistic(x, wrong) == pytest.approx([0.5, -0.02], rel=0.06)


def test_separable_and_constant_features_have_finite_weights() -> None:
    x = np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0], [4.0, 7.0]])
    weights = logistic(x, np.array([False, False, True, True]))
    assert np.isfinite(weights).all()
    assert weights[0] > 1
    assert weights[1] == 0


def test_the_gain_is_what_the_second_feature_adds() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((8000, 2))
    wrong = x[:, 1] > 0
    fitted, judged = slice(4000), slice(4000, None)
    found = gain(x[fitted], wrong[fitted], x[judged], wrong[judged])
    assert found == pytest.approx(0.5, abs=0.03)  # the first says nothing, the second all
    wrong = x[:, 0] > 0
    assert gain(x[fitted], wrong[fitted], x[judged], wrong[judged]) == pytest.approx(0, abs=1e-3)
    assert gain(x, wrong, x[:9], np.ones(9, bool)) is None
