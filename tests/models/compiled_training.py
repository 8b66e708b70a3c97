"""Run by test_compiled: `python compiled_training.py BACKEND MODEL...`.

It fails where compiled training is not the eager one.
"""

from __future__ import annotations

import functools
import sys

import torch

from phasebench.config import KoopmanConfig, MeraConfig, ModelConfig
from phasebench.models import build_model


def compare(name: str) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(0)
    name, _, coordinates = name.partition("-")  # as in tests/variants.py
    config = ModelConfig(
        name=name,
        coordinates=coordinates or "state",
        dim=16,
        blocks=2,
        heads=2,
        hidden=32,
        koopman=KoopmanConfig("damped" if name == "stage3" else "off"),
        mera=MeraConfig("beside" if name == "stage3" else "off"),
    )
    model = build_model(config, 50)
    tokens, targets = torch.randint(50, (2, 2, 12))
    model.eval()
    logits = model(tokens)
    model.train()
    steps = []
    for _ in range(2):
        model.zero_grad()
        nats, _ = model.loss(tokens, targets, 100)
        nats.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        steps.append([nats.detach(), *gradients])
        model.compile_training()
    for eager, compiled in zip(*steps, strict=True):  # by the norm: single numbers may be near 0
        error = (compiled - eager).norm() / eager.norm()
        assert error < 1e-3, error
    assert len(steps[0]) == 1 + len(list(model.parameters()))
    model.eval()
    assert torch.equal(model(tokens), logits), "an evaluation has other bits"
    print("compiled", torch._dynamo.utils.counters["stats"]["unique_graphs"], "graphs")


if __name__ == "__main__":
    torch.compile = functools.partial(torch.compile, backend=sys.argv[1])
    for model in sys.argv[2:]:
        compare(model)
