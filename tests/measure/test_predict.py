"""The predictor against the bytes that a real step on the CPU allocates, and what it must say of each method."""

from __future__ import annotations

import resource

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from phasebench import evaluation
from phasebench.config import ARMS, ModelConfig, OdeConfig
from phasebench.measure.predict import BLOCK, StorageTracker, predicting
from phasebench.measure.step import StepBytes, measure_step
from phasebench.models import LanguageModel, build_model

CPU = torch.device("cpu")


def loss(model: LanguageModel, tokens: Tensor, precision: str, chunk: int) -> Tensor:
    with evaluation.autocast(CPU, precision):
        return model.loss(tokens, tokens, chunk)[0]


def make(vocab: int, batch: int, seq: int, model: ModelConfig) -> tuple[LanguageModel, Tensor]:
    return build_model(model, vocab).train(), torch.zeros(batch, seq, dtype=torch.int64)


def config(gradient: str, dim: int = 32, hidden: int = 128, blocks: int = 2, **ode: int | float | str) -> ModelConfig:
    return ModelConfig(dim=dim, heads=2, hidden=hidden, blocks=blocks, ode=OdeConfig(gradient=gradient, **ode))  # pyright: ignore


def predicted(
    model: ModelConfig, precision: str = "fp32", *, vocab: int = 500, batch: int = 2, seq: int = 256, chunk: int = 128
) -> StepBytes:
    with predicting() as tracker:
        made, tokens = make(vocab, batch, seq, model)
        return measure_step(made, lambda: loss(made, tokens, precision, chunk), tracker)


def counted_peak(model: ModelConfig, precision: str = "fp32", *, vocab: int = 500, chunk: int = 128) -> int:
    """Peak of a real step: live bytes before it, plus what torch's CPU allocator reports while it runs."""
    made, tokens = make(vocab, 2, 256, model)
    loss(made, tokens, precision, chunk).backward()
    made.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        loss(made, tokens, precision, chunk).backward()
    records = profiled.profiler.kineto_results.events()  # pyright: ignore
    sizes = sorted((e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]")
    live = peak = sum(p.nbytes for p in made.parameters()) + tokens.nbytes
    for _, size in sizes:
        live += size
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize("ode", [{"steps": 4}, {"steps": 2, "omega": 0.5, "potential": "gelu"}])
@pytest.mark.parametrize("gradient", ARMS)
def test_prediction_is_within_two_percent_of_the_bytes_that_a_real_step_allocates(gradient: str, ode: dict) -> None:
    model = config(gradient, **ode)
    assert predicted(model).peak == pytest.approx(counted_peak(model), rel=0.02)


@pytest.mark.parametrize("chunk", [32, 128])
def test_prediction_holds_where_head_and_loss_dominate(chunk: int) -> None:
    # chunk 32: the peak is that of adding two gradients of the table, which autograd does not do in place for a view
    model = config("adjoint", blocks=1, hidden=64, steps=1)
    assert predicted(model, vocab=8000, chunk=chunk).peak == pytest.approx(
        counted_peak(model, vocab=8000, chunk=chunk), rel=0.02
    )


@pytest.mark.parametrize("gradient", ARMS)
def test_prediction_holds_under_autocast_with_its_cache_of_cast_weights(gradient: str) -> None:
    # so many logits that one copy which the CPU's kernels make and the GPU's do not, in sums of bf16, is no peak
    model = config(gradient, steps=4)
    assert predicted(model, "bf16", vocab=4000).peak == pytest.approx(counted_peak(model, "bf16", vocab=4000), rel=0.02)


def test_adjoint_needs_the_same_for_any_number_of_steps() -> None:
    one, thirty = (predicted(config("adjoint", blocks=1, steps=n)) for n in (1, 30))
    assert one == thirty


def test_backprop_grows_linearly_in_the_steps() -> None:
    first, second, third = (predicted(config("backprop", blocks=1, steps=n)).held for n in (10, 20, 30))
    assert second - first == third - second > 10 * 512 * 128 * 4  # at least sigma' of 512 tokens a step


def test_methods_are_ordered() -> None:
    peaks = {gradient: predicted(config(gradient, steps=6)).peak for gradient in ARMS}
    assert peaks["autograd"] > peaks["backprop"] > peaks["checkpoint"] > peaks["adjoint_exact"] >= peaks["adjoint"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_attention_is_fused_so_that_memory_is_linear_in_the_sequence(precision: str) -> None:
    held = [predicted(config("adjoint", steps=1), precision, seq=n, chunk=64).held for n in (512, 1024, 2048)]
    assert held[2] - held[1] == pytest.approx(2 * (held[1] - held[0]), rel=1e-3)


def test_no_logits_beyond_a_chunk() -> None:
    whole, chunked = (predicted(config("adjoint", steps=1), vocab=20000, chunk=chunk) for chunk in (512, 64))
    assert whole.peak - chunked.peak > 1.5 * (512 - 64) * 20000 * 4


def test_peak_contains_parameters_and_every_gradient() -> None:
    found = predicted(config("adjoint", steps=1), vocab=30000)
    assert found.parameters >= 30000 * 64 * 4
    assert found.gradients == pytest.approx(found.parameters, rel=0.01)
    assert found.peak >= found.parameters + found.gradients
    assert found.peak == found.before + found.held + found.transient


def test_seed_scale_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = ModelConfig(ode=OdeConfig(steps=10, gradient="backprop"))
    found = predicted(model, "fp16", vocab=50257, seq=2048, chunk=1024)
    assert found.peak > 2e9
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300e3  # KiB


def test_tracker_rounds_counts_views_once_and_forgets_the_dead() -> None:
    with predicting() as tracker:
        x = torch.zeros(1)
        assert tracker.allocated() == BLOCK
        views = [x.view(1, 1), x.detach(), x[:0], x.expand(5)]
        assert tracker.allocated() == BLOCK
        y = torch.zeros(129)
        assert tracker.allocated() == 3 * BLOCK
        del x, views, y
        assert (tracker.allocated(), tracker.peak()) == (0, 3 * BLOCK)
        tracker.reset_peak()
        assert tracker.peak() == 0


def test_tracker_counts_real_tensors_too() -> None:
    with StorageTracker() as tracker:
        x = torch.zeros(1000)
        (x + 1).sum()
    assert (tracker.allocated(), tracker.peak()) == (4096, 2 * 4096 + BLOCK)


def test_gradients_are_added_in_place_only_where_autograd_does() -> None:
    with predicting() as tracker:
        x = torch.zeros(1024, requires_grad=True)
        y = 2 * x + 3 * x
        tracker.reset_peak()
        y.backward(torch.ones_like(y))
        assert tracker.peak() == 5 * 4096  # x, y, its gradient and the two terms of x's: not their sum
        tracker.reset_peak()
        _ = x + y
        assert tracker.peak() == tracker.allocated() == 4 * 4096  # x, its gradient, y, the sum
        x.grad = None
        del y, _
        z = (2 * x.view(32, 32)).sum() + (3 * x.view(32, 32)).sum()
        tracker.reset_peak()
        z.backward()
        assert tracker.peak() == 4 * 4096 + 2 * BLOCK  # x, two terms that are views, their sum; z and its gradient
