"""The leak test of test_models after a training, which has changed gains and couplings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from phasebench.config import (
    DataConfig,
    ModelConfig,
    OdeConfig,
    SyntheticConfig,
    TrainConfig,
)
from phasebench.data import Corpus, load_corpus, training_batch
from phasebench.models import LanguageModel, build_model
from phasebench.training.checkpoint import History
from phasebench.training.loop import Training
from variants import VARIANTS, variant

RECIPE = TrainConfig(steps=20, batch=4, seq=32, lr=0.01, warmup=2, precision="fp32", loss_chunk=64)


def trained(corpus: Corpus, model: LanguageModel, path: Path) -> History:
    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return training_batch(
            corpus.splits["train"].tokens, step, batch=RECIPE.batch, seq=RECIPE.seq, seed=0
        )

    training = Training(model, batches, None, RECIPE, 0, torch.device("cpu"), path, {})
    return training.run()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_trained_model_does_not_see_the_future(tmp_path: Path, name: str) -> None:
    """Changing token t leaves the bits of logits before t and changes those at t, for every t."""
    corpus = load_corpus(DataConfig(name="synthetic", synthetic=SyntheticConfig(rows=40)), tmp_path)
    ode = OdeConfig(steps=3)
    model = build_model(
        ModelConfig(**variant(name), dim=16, blocks=1, heads=2, hidden=32, positions=32, ode=ode),
        corpus.vocab_size,
    )
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    history = trained(corpus, model, tmp_path / "weights.safetensors")
    assert history.steps[-1]["loss"] < 0.9 * history.steps[0]["loss"]
    # the first velocity is zero, whatever its factors
    still = ["kicks.0.beta", "kicks.0.mu"] if name == "momentum" else []
    assert [key for key, p in model.named_parameters() if torch.equal(p, start[key])] == still

    model.eval()
    tokens = corpus.splits["test"].tokens[:24][None]
    with torch.no_grad():
        before = model(tokens)
        for changed in range(tokens.shape[1]):
            other = tokens.clone()
            other[:, changed] = (other[:, changed] + 1) % corpus.vocab_size
            after = model(other)
            assert torch.equal(before[:, :changed], after[:, :changed]), changed
            assert not torch.equal(before[:, changed], after[:, changed]), changed
