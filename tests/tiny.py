"""A tiny language model, a task that it can learn, and a training of both: what the tests of
training share.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from phasebench.config import Decay, TrainConfig
from phasebench.models.objective import PLAIN, Objective
from phasebench.training.checkpoint import History
from phasebench.training.loop import Training

CPU = torch.device("cpu")
VOCAB = 11
IDENTITY = {"model.dim": "8", "data.vocab": str(VOCAB)}


class TinyModel(nn.Module):
    """Embedding, dropout, one hidden layer, tied head; it sees one token back."""

    def __init__(
        self, dim: int = 8, vocab: int = VOCAB, dropout: float = 0.1, tied: bool = True
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim)
        self.hidden = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(dim, vocab)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.drop(torch.tanh(self.hidden(self.embedding(tokens)))))

    def loss(
        self, tokens: Tensor, targets: Tensor, chunk: int, objective: Objective = PLAIN
    ) -> tuple[Tensor, Tensor]:
        logits = self(tokens).flatten(0, 1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, targets.flatten(), reduction="sum"), (targets != -100).sum()

    def check_lattices(self) -> None: ...

    def compile_training(self) -> None:
        raise AssertionError("nobody asked for it")

    def decay(self, name: str, parameter: nn.Parameter) -> Decay | None:
        if parameter.ndim < 2:
            return None
        return "embedding_decay" if name.startswith("embedding.") else "weight_decay"


def tiny_model(seed: int = 0, **options: Any) -> TinyModel:
    torch.manual_seed(seed)
    return TinyModel(**options)


def pattern(step: int, batch: int = 8, seq: int = 6) -> tuple[Tensor, Tensor]:
    """Token 3 n + 1 follows token n; the first position is not scored."""
    start = torch.randint(VOCAB, (batch, 1), generator=torch.Generator().manual_seed(step))
    rows = [start]
    for _ in range(seq):
        rows.append((3 * rows[-1] + 1) % VOCAB)
    stream = torch.cat(rows, 1)
    targets = stream[:, 1:].clone()
    targets[:, 0] = -100
    return stream[:, :-1], targets


def recipe(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "steps": 40,
        "batch": 8,
        "seq": 6,
        "lr": 0.02,
        "warmup": 5,
        "precision": "fp32",
        "loss_chunk": 64,
        "validate_every": 10,
        "checkpoint_every": 7,
    }
    return TrainConfig(**(values | changes))


def train_tiny(
    model: TinyModel, path: Path, changes: dict[str, Any] | None = None, **options: Any
) -> History:
    """Train on the pattern, validated by its loss on one fixed batch."""
    inputs, targets = pattern(10**6)

    def validate() -> float:
        model.eval()
        with torch.no_grad():
            nats, count = model.loss(inputs, targets, 64)
        model.train()
        return float(nats / count)

    values: dict[str, Any] = {
        "batches": pattern,
        "validate": validate,
        "seed": 1,
        "device": CPU,
        "identity": IDENTITY,
    }
    return Training(model, recipe=recipe(**(changes or {})), path=path, **(values | options)).run()


def train_slowly(path: str) -> None:
    """For a subprocess that is to be killed: a training whose steps take 50 ms."""

    def slow(step: int) -> tuple[Tensor, Tensor]:
        time.sleep(0.05)
        return pattern(step)

    torch.set_num_threads(1)
    train_tiny(tiny_model(), Path(path), {"steps": 120}, batches=slow)
