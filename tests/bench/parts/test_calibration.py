"""Temperature and calibration error of made-up predictions whose answers are known."""

from __future__ import annotations

import pytest
import torch

from phasebench.bench.parts.calibration import BINS, fitted_beta, predictions


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_the_temperature_that_made_the_logits_is_found(scale: float) -> None:
    torch.manual_seed(0)
    y = torch.randn(20_000, 7) * 1.5
    t = torch.multinomial(y.softmax(1), 1)
    passes = ([(scale * y[:5000], t[:5000]), (scale * y[5000:], t[5000:])] for _ in range(8))
    beta = fitted_beta(passes)
    assert beta == pytest.approx(1 / scale, rel=0.03)
    assert predictions([(scale * y, t)], beta).expected_calibration_error < 0.02
    if scale != 1.0:
        assert predictions([(scale * y, t)], 1.0).expected_calibration_error > 0.1


def test_bins_have_equal_mass() -> None:
    sure = torch.linspace(0.55, 0.95, 3 * BINS)
    y = torch.stack([sure.log(), (1 - sure).log()], 1)
    right = torch.arange(3 * BINS) % 3 > 0  # two of the three in each bin
    found = predictions([(y, (~right).long()[:, None])], 1.0).expected_calibration_error
    middles = sure.reshape(BINS, 3).mean(1)
    assert found == pytest.approx((middles - 2 / 3).abs().mean().item(), abs=1e-6)


def test_predictions_of_a_known_case() -> None:
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    halves = [(p[:2].log() / 2, torch.tensor([[0], [0]])), (p[2:].log() / 2, torch.tensor([[0]]))]
    made = predictions(halves, beta=2.0)
    assert made.sure == pytest.approx([0.9, 0.8, 0.5])
    assert made.right.tolist() == [True, False, True]
    assert made.entropy == pytest.approx((-(p * p.log()).sum(1)).tolist())
    assert made.brier == pytest.approx((0.1**2 + 0.8**2 + 0.5**2) / 3)
