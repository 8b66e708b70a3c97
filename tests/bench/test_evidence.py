from __future__ import annotations

import math

import pytest
import torch

from phasebench.bench.evidence import weight_change, worst
from phasebench.config import ModelConfig
from phasebench.models import build_model

MODEL = ModelConfig(name="stage1", dim=4, blocks=1, heads=1, hidden=4)


def test_kind_1_the_change_of_the_weights_is_that_of_their_training() -> None:
    torch.manual_seed(3)
    model = build_model(MODEL, 11)
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    assert weight_change(model, MODEL, 11, 3) == 0
    assert torch.equal(torch.rand(3), wanted)  # the caller's random numbers are as before
    assert weight_change(model, MODEL, 11, 4) > 0.1
    with torch.no_grad():
        for w in model.parameters():
            w *= 1.01
    assert weight_change(model, MODEL, 11, 3) == pytest.approx(0.01, rel=1e-4)


def test_kind_1_an_aggregate_keeps_nan() -> None:
    assert worst([1.0, 3.0, 2.0]) == 3.0
    assert worst([]) is None
    for values in ([math.nan, 1.0], [1.0, math.nan], [math.inf, math.nan]):
        assert math.isnan(worst(values) or 0.0)
