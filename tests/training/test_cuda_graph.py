"""Steps replayed from a CUDA graph, against the same steps without."""

from __future__ import annotations

import pytest
import torch

from phasebench.config import ConfigError, DropoutConfig, ModelConfig, OdeConfig, TrainConfig
from phasebench.models import build_model
from phasebench.training.step import TrainStep

RECIPE = {"batch": 4, "seq": 16, "steps": 12, "warmup": 2, "precision": "bf16"}
RATES = DropoutConfig(embedding=0.1, input=0.2, block=0.2, output=0.2)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_replayed_steps_are_the_steps(name: str) -> None:
    model = ModelConfig(
        name=name, dim=32, blocks=2, heads=4, hidden=64, dropout=RATES, ode=OdeConfig(steps=3)
    )
    tokens = torch.randint(0, 50, (12, 4, 17), generator=torch.Generator().manual_seed(3))
    losses, ends = [], []
    for graph in (False, True):
        torch.manual_seed(0)
        made = build_model(model, 50).cuda()
        update = TrainStep(made, TrainConfig(**RECIPE, graph=graph), 0, torch.device("cuda"))
        losses.append([float(update(i, (x[:, :-1], x[:, 1:]))[0]) for i, x in enumerate(tokens)])
        ends.append(torch.cat([p.detach().flatten() for p in made.parameters()]))
        assert update.first_bad_step() == 0
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    assert len(set(losses[1])) == 12  # of twelve batches
    assert (ends[0] - ends[1]).norm() < 1e-2 * ends[0].norm()


@pytest.mark.gpu
def test_a_diverged_replayed_step_has_its_number() -> None:
    made = build_model(ModelConfig(name="stage1", dim=32, blocks=1, heads=4, hidden=64), 50).cuda()
    update = TrainStep(made, TrainConfig(**RECIPE, graph=True), 0, torch.device("cuda"))
    tokens = torch.randint(0, 50, (4, 17))
    for step in range(8):
        if step == 6:
            made.get_parameter("norm.g").data.fill_(torch.nan)
        update(step, (tokens[:, :-1], tokens[:, 1:]))
    assert update.first_bad_step() == 7


def test_fp16_cannot_be_recorded() -> None:
    with pytest.raises(ConfigError, match="loss scaler"):
        TrainConfig(precision="fp16", graph=True)
