"""The predictor against the bytes that a real step on the CPU allocates, and what it must say of
each method.
"""

from __future__ import annotations

import dataclasses
import resource
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from phasebench.bench.vram import arm as vram_arm
from phasebench.bench.vram import sized
from phasebench.bench.vram.allocator import BLOCK
from phasebench.bench.vram.arm import ArmRequest
from phasebench.bench.vram.gpus import GPUS
from phasebench.bench.vram.meter import StepBytes, measure_step
from phasebench.bench.vram.predict import StorageTracker, predicting
from phasebench.config import (
    ARMS,
    GRADIENTS,
    RECOMPUTE,
    KoopmanConfig,
    MeraConfig,
    ModelConfig,
    OdeConfig,
    TrainConfig,
)
from phasebench.dynamics.gpu.plan import Plan
from phasebench.models import LanguageModel, build_model
from phasebench.models import cross_entropy as loss_module
from phasebench.training import scoring as evaluation
from phasebench.training.optimizer import make_optimizer

CPU = torch.device("cpu")


def loss(model: LanguageModel, tokens: Tensor, precision: str, chunk: int | None) -> Tensor:
    with evaluation.autocast(CPU, precision):
        return model.loss(tokens, tokens, chunk)[0]


def make(vocab: int, batch: int, seq: int, model: ModelConfig) -> tuple[LanguageModel, Tensor]:
    return build_model(model, vocab).train(), torch.zeros(batch, seq, dtype=torch.int64)


def config(
    gradient: str, dim: int = 32, hidden: int = 128, blocks: int = 2, **ode: int | float | str
) -> ModelConfig:
    # leapfrog: a prediction takes as long as its forces are many
    values: dict[str, Any] = {"gradient": gradient, "integrator": "leapfrog", **ode}
    return ModelConfig(dim=dim, heads=2, hidden=hidden, blocks=blocks, ode=OdeConfig(**values))


def predicted(
    model: ModelConfig,
    precision: str = "fp32",
    *,
    vocab: int = 500,
    batch: int = 2,
    seq: int = 256,
    chunk: int | None = 128,
) -> StepBytes:
    with predicting() as tracker:
        made, tokens = make(vocab, batch, seq, model)
        return measure_step(made, lambda: loss(made, tokens, precision, chunk), tracker)


def counted_peak(
    model: ModelConfig,
    precision: str = "fp32",
    *,
    vocab: int = 500,
    chunk: int | None = 128,
    update: bool = False,
) -> int:
    """Peak of a real step: live bytes before it, plus what torch's CPU allocator reports while it
    runs.
    """
    made, tokens = make(vocab, 2, 256, model)
    optimizer = make_optimizer(made, TrainConfig())
    loss(made, tokens, precision, chunk).backward()
    if update:
        optimizer.step()
    made.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        loss(made, tokens, precision, chunk).backward()
        if update:
            optimizer.step()
    records = profiled.profiler.kineto_results.events()  # pyright: ignore
    sizes = sorted((e.start_ns(), e.nbytes()) for e in records if e.name() == "[memory]")
    live = peak = (3 if update else 1) * sum(p.nbytes for p in made.parameters()) + tokens.nbytes
    for _, size in sizes:
        live += size
        peak = max(peak, live)
    return peak


@pytest.mark.parametrize(
    "ode", [{"steps": 3}, {"steps": 2, "normalize": False, "potential": "gelu"}]
)
@pytest.mark.parametrize("gradient", ARMS)
def test_prediction_is_within_three_percent_of_the_bytes_that_a_real_step_allocates(
    gradient: str, ode: dict
) -> None:
    model = config(gradient, **ode)
    assert predicted(model).peak == pytest.approx(counted_peak(model), rel=0.03)


@pytest.mark.parametrize("chunk", [32, 128])
def test_prediction_holds_where_head_and_loss_dominate(chunk: int) -> None:
    # chunk 32: the peak is that of adding two gradients of the table, which autograd does not do
    # in place for a view
    model = config("adjoint", blocks=1, hidden=64, steps=1)
    assert predicted(model, vocab=8000, chunk=chunk).peak == pytest.approx(
        counted_peak(model, vocab=8000, chunk=chunk), rel=0.03
    )


@pytest.mark.parametrize("gradient", ARMS)
def test_prediction_holds_under_autocast_with_its_cache_of_cast_weights(gradient: str) -> None:
    # so many logits that one copy which the CPU's kernels make and the GPU's do not, in sums of
    # bf16, is no peak
    model = config(gradient, steps=2)
    assert predicted(model, "bf16", vocab=4000).peak == pytest.approx(
        counted_peak(model, "bf16", vocab=4000), rel=0.03
    )


def test_adjoint_needs_the_same_for_any_number_of_steps() -> None:
    one, ten = (predicted(config("adjoint", blocks=1, steps=n)) for n in (1, 10))
    assert one == ten


def test_backprop_grows_linearly_in_the_steps() -> None:
    first, second, third = (
        predicted(config("backprop", blocks=1, steps=n)).held for n in (4, 8, 12)
    )
    assert (
        second - first == third - second > 4 * 512 * 128 * 4
    )  # at least sigma' of 512 tokens a step


def test_methods_are_ordered() -> None:
    peaks = {gradient: predicted(config(gradient, steps=6)).peak for gradient in ARMS}
    assert (
        peaks["autograd"]
        > peaks["backprop"]
        > peaks["checkpoint"]
        > peaks["adjoint_exact"]
        >= peaks["adjoint"]
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_attention_is_fused_so_that_memory_is_linear_in_the_sequence(precision: str) -> None:
    held = [
        predicted(config("adjoint", blocks=1, steps=1), precision, seq=n, chunk=64).held
        for n in (512, 1024, 2048)
    ]
    assert held[2] - held[1] == pytest.approx(2 * (held[1] - held[0]), rel=1e-3)


def test_no_logits_beyond_a_chunk() -> None:
    whole, chunked = (
        predicted(config("adjoint", steps=1), vocab=20000, chunk=chunk) for chunk in (512, 64)
    )
    assert whole.peak - chunked.peak == pytest.approx(
        (512 - 64) * 20000 * 4, rel=0.03
    )  # and of that, one tensor


def test_peak_contains_parameters_and_every_gradient() -> None:
    found = predicted(config("adjoint", steps=1), vocab=30000)
    assert found.parameters >= 30000 * 64 * 4
    assert found.gradients == found.parameters
    assert found.peak >= found.parameters + found.gradients
    assert found.peak == found.before + found.held + found.transient


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


def test_tensors_without_values_share_storages_as_real_ones_do() -> None:
    def program() -> list[Tensor]:
        x = torch.zeros(4, 6)
        y = x.mul(2)
        y += x  # in place
        torch.mm(x, y.T, out=(z := torch.empty(4, 4)))
        parts = (*y.split(2), *torch._foreach_add([x, z], 1), y.T.contiguous(), x.sum(1))
        return [x, y, z, *parts, z.view(2, 8)[:, ::2], x.to(torch.float16), y.detach()]

    real = program()
    with predicting():
        made = program()
        storages = [sized.storage(x)._cdata for x in made]
    assert [(x.shape, x.stride(), x.storage_offset(), x.dtype) for x in made] == [
        (x.shape, x.stride(), x.storage_offset(), x.dtype) for x in real
    ]
    shared = [x.untyped_storage().data_ptr() for x in real]
    assert [[a == b for b in storages] for a in storages] == [
        [a == b for b in shared] for a in shared
    ]
    with pytest.raises(RuntimeError, match="this tensor has no values"):
        made[0].sum()


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
        assert (
            tracker.peak() == 5 * 4096
        )  # x, y, its gradient and the two terms of x's: not their sum
        tracker.reset_peak()
        _ = x + y
        assert tracker.peak() == tracker.allocated() == 4 * 4096  # x, its gradient, y, the sum
        x.grad = None
        del y, _
        z = (2 * x.view(32, 32)).sum() + (3 * x.view(32, 32)).sum()
        tracker.reset_peak()
        z.backward()
        assert (
            tracker.peak() == 4 * 4096 + 2 * BLOCK
        )  # x, two terms that are views, their sum; z and its gradient


@pytest.mark.parametrize("recompute", [[], *([part] for part in RECOMPUTE)], ids="+".join)
def test_prediction_holds_whatever_is_computed_again(recompute: list[str]) -> None:
    model = dataclasses.replace(config("backprop", steps=3), recompute=recompute)
    assert predicted(model, vocab=3000).peak == pytest.approx(
        counted_peak(model, vocab=3000), rel=0.03
    )


@pytest.mark.parametrize("recompute", [[], list(RECOMPUTE)], ids="+".join)
@pytest.mark.parametrize("gradient", ["backprop", "adjoint_exact"])
def test_prediction_holds_for_learned_coordinates(gradient: str, recompute: list[str]) -> None:
    model = dataclasses.replace(
        config(gradient, steps=3), recompute=recompute, coordinates="learned"
    )
    assert predicted(model).peak == pytest.approx(counted_peak(model), rel=0.03)


@pytest.mark.parametrize(("mode", "recompute"), [("beside", []), ("instead", ["attention"])])
def test_prediction_holds_for_parts_of_stage_3(mode: str, recompute: list[str]) -> None:
    model = dataclasses.replace(
        config("adjoint_exact", steps=2),
        name="stage3",
        koopman=KoopmanConfig("damped"),
        mera=MeraConfig(mode, heads=2),
        recompute=recompute,
    )
    assert predicted(model).peak == pytest.approx(counted_peak(model), rel=0.03)


def test_prediction_holds_for_a_plain_head() -> None:
    model = config("adjoint", steps=2)
    found = predicted(model, vocab=3000, chunk=None)
    assert found.peak == pytest.approx(counted_peak(model, vocab=3000, chunk=None), rel=0.03)
    assert (
        found.held - predicted(model, vocab=3000).held > 0.9 * 2 * 256 * 3000 * 4
    )  # all logits, until the backward pass


def asked(gradient: str, optimizer: str = "none", **changes: Any) -> ArmRequest:
    values: dict[str, Any] = {
        "batch": 2,
        "seq": 256,
        "vocab": 2000,
        "precision": "fp32",
        "loss_chunk": 128,
    }
    return ArmRequest(
        model=config(gradient, steps=3),
        optimizer=optimizer,
        repeats=1,
        device="cpu",
        **(values | changes),
    )


@pytest.mark.parametrize("gradient", ["backprop", "adjoint_exact"])
def test_an_optimizer_s_state_and_step_are_predicted(gradient: str) -> None:
    request = asked(gradient, "adamw")
    (found, _), (without, _) = vram_arm.predict(request), vram_arm.predict(asked(gradient))
    assert found.peak == pytest.approx(
        counted_peak(request.model, vocab=2000, update=True), rel=0.03
    )
    assert found.optimizer == pytest.approx(2 * found.parameters, rel=0.001)
    assert found.before - without.before == pytest.approx(found.optimizer, rel=0.02)
    assert without.optimizer == without.peak_update == 0
    assert found.peak_update >= found.parameters + found.optimizer + found.gradients


@pytest.mark.parametrize("gradient", ["adjoint", "adjoint_exact", "adjoint_exact_eager"])
def test_every_adjoint_is_flat_in_the_steps_on_a_gpu_too(gradient: str) -> None:
    request = asked(gradient)
    peaks = set()
    for steps in (1, 5, 12):
        ode = dataclasses.replace(request.model.ode, steps=steps)
        model = dataclasses.replace(request.model, ode=ode)
        peaks.add(vram_arm.predict(dataclasses.replace(request, model=model), GPUS["h100"])[0].peak)
    assert len(peaks) == 1


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_prediction_for_a_gpu_adds_workspaces_and_no_tensors(gradient: str) -> None:
    request = asked(gradient, seq=64)
    (bare, _), (found, reserved) = (
        vram_arm.predict(request),
        vram_arm.predict(request, GPUS["h100"]),
    )
    assert found.parameters == bare.parameters
    assert found.before >= bare.before + vram_arm.workspaces(request, GPUS["h100"])
    assert reserved >= found.peak


def test_three_chunks_of_logits_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [
        asked("adjoint", vocab=3000, loss_chunk=chunk) for chunk in (30, 64)
    ]  # 18 chunks, the last shorter; 8
    found = [vram_arm.predict(request, GPUS["h100"]) for request in requests]
    monkeypatch.setattr(
        loss_module, "_chunks", lambda z, n: [slice(i, i + n) for i in range(0, len(z), n)]
    )
    assert [vram_arm.predict(request, GPUS["h100"]) for request in requests] == found


def test_what_a_plan_does_takes_no_memory_so_that_a_prediction_may_leave_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = asked("adjoint_exact")
    found = vram_arm.predict(request, GPUS["h100"])
    monkeypatch.setattr(Plan, "pretend", lambda self: None)
    assert vram_arm.predict(request, GPUS["h100"]) == found


def test_a_prediction_of_64_x_8192_tokens_takes_little_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = ModelConfig(ode=OdeConfig(steps=1, integrator="leapfrog"))
    request = ArmRequest(model, 64, 8192, 50257, "tf32", 1024, "none", 1, "cpu")
    found, _ = vram_arm.predict(request, GPUS["h100"])
    assert found.peak > 40e9  # 64 x 8192 states of 4 KB are 2.1 GB, and some 20 are held
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300e3  # KiB
