"""Run by test_compiled: `python compiled_training.py MODEL` fails where compiled training is not the eager one."""

from __future__ import annotations

import sys

import torch

from phasebench.config import ModelConfig
from phasebench.models import build_model


def main(name: str) -> None:
    torch.manual_seed(0)
    name, _, coordinates = name.partition("-")  # as in tests/variants.py
    config = ModelConfig(
        name=name, coordinates=coordinates or "state", dim=16, blocks=2, heads=2, hidden=32
    )
    model = build_model(config, 50)
    tokens, targets = torch.randint(50, (2, 2, 12))
    model.eval()
    logits = model(tokens)
    model.train()
    found = []
    for _ in range(2):
        model.zero_grad()
        nats, _ = model.loss(tokens, targets, 100)
        nats.backward()
        found.append(
            [nats.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]
        )
        model.compile_training()
    for eager, compiled in zip(
        *found, strict=True
    ):  # by the norm: the weak coupling amplifies rounding
        assert (compiled - eager).norm() < 1e-3 * eager.norm(), (
            compiled - eager
        ).norm() / eager.norm()
    assert len(found[0]) == 1 + len(list(model.parameters()))
    model.eval()
    assert torch.equal(model(tokens), logits), "an evaluation has other bits"
    print("compiled", torch._dynamo.utils.counters["stats"]["unique_graphs"], "graphs")


if __name__ == "__main__":
    main(sys.argv[1])
