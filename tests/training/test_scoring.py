from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from phasebench.training.scoring import (
    NotFinite,
    Score,
    autocast,
    matmul_precision,
    perplexity,
    score,
)
from tiny import CPU, VOCAB, TinyModel, pattern, tiny_model

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def batches() -> Batches:
    return [pattern(n, batch=3, seq=5 + n) for n in range(4)]


def scored(
    model: TinyModel, batches: Batches, precision: str = "fp32", max_batches: int | None = None
) -> Score:
    return score(
        model, batches, device=CPU, precision=precision, loss_chunk=64, max_batches=max_batches
    )


@pytest.mark.parametrize("vocab", [VOCAB, 50257])
def test_uniform_model_has_the_vocabulary_size_as_its_perplexity(
    batches: Batches, vocab: int
) -> None:
    model = tiny_model(vocab=vocab, dim=2).double()
    torch.nn.init.zeros_(model.embedding.weight)
    torch.nn.init.zeros_(model.head.bias)
    assert scored(model, batches).perplexity == pytest.approx(vocab, rel=1e-12)


def test_sum_is_that_of_a_loop_over_tokens(batches: Batches) -> None:
    model = tiny_model().double()
    found = scored(model, batches)
    nats, tokens = 0.0, 0
    model.eval()
    for inputs, targets in batches:
        logs = torch.log_softmax(model(inputs).detach(), -1)
        for row in range(targets.shape[0]):
            for t in range(targets.shape[1]):
                if targets[row, t] != -100:
                    nats -= float(logs[row, t, targets[row, t]])
                    tokens += 1
    assert found.nats == pytest.approx(nats, rel=1e-14)
    assert (found.tokens, found.batches, found.complete) == (tokens, 4, True)
    assert found.nats_per_token == found.nats / tokens
    assert found.perplexity == math.exp(found.nats_per_token)


def test_max_batches_says_whether_anything_was_left_out(batches: Batches) -> None:
    model = tiny_model()
    first = scored(model, batches[:2])
    cut = scored(model, batches, max_batches=2)
    assert (cut.nats, cut.tokens, cut.batches, cut.complete) == (first.nats, first.tokens, 2, False)
    assert scored(model, batches, max_batches=4) == scored(model, batches)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite_names_the_batch_and_restores_the_mode(batches: Batches, value: float) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.embedding.weight[7] = value
    bad = next(n for n, (inputs, _) in enumerate(batches) if (inputs == 7).any())
    with pytest.raises(NotFinite, match=f"batch {bad} is nan, in fp32"):
        scored(model, batches)
    assert model.training


def test_mode_is_evaluation_inside_and_restored_after(batches: Batches) -> None:
    model, seen = tiny_model(), []
    model.register_forward_pre_hook(
        lambda module, _: seen.append((module.training, torch.is_grad_enabled()))
    )
    for training in (True, False):
        model.train(training)
        scored(model, batches)
        assert model.training is training
    assert set(seen) == {(False, False)}


def test_errors_of_the_model_propagate(batches: Batches) -> None:
    class Hungry(TinyModel):
        def loss(self, tokens: Tensor, targets: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
            raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        scored(Hungry(), batches)


def test_nothing_to_score_is_an_error() -> None:
    nothing = (torch.zeros(1, 3, dtype=torch.int64), torch.full((1, 3), -100))
    for batches in ([], [nothing]):
        with pytest.raises(ValueError, match="has a token to score"):
            scored(tiny_model(), batches)


def test_batches_are_read_lazily(batches: Batches) -> None:
    events: list[str] = []

    class Watched(TinyModel):
        def loss(self, tokens: Tensor, targets: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
            events.append("scored")
            return super().loss(tokens, targets, chunk)

    def read() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            events.append("read")
            yield batch

    score(Watched(), read(), device=CPU, precision="fp32", loss_chunk=64)
    assert events == ["read", "scored"] * len(batches)


@pytest.mark.parametrize(
    ("precision", "dtype", "matmul"),
    [
        ("fp32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "highest"),
        ("fp16", torch.float16, "highest"),
    ],
)
def test_precision_holds_inside_and_is_restored(
    precision: str, dtype: torch.dtype, matmul: str
) -> None:
    for outside in ("medium", "highest"):
        torch.set_float32_matmul_precision(outside)
        with contextlib.suppress(KeyError), autocast(CPU, precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
            assert torch.get_float32_matmul_precision() == matmul
            raise KeyError  # restored after an error too
        assert torch.get_float32_matmul_precision() == outside
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_fp32_switches_an_outer_autocast_off() -> None:
    with autocast(CPU, "bf16"), autocast(CPU, "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with matmul_precision("tf32"), matmul_precision("fp32"):
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_scores_nearly_the_same(batches: Batches, precision: str) -> None:
    model = tiny_model()
    exact, found = scored(model, batches), scored(model, batches, precision)
    assert found.nats != exact.nats
    assert found.nats == pytest.approx(exact.nats, rel=1e-2)


def test_perplexity_ends_in_infinity() -> None:
    assert perplexity(800.0) == math.inf
    assert perplexity(0.0) == 1.0
