"""The kernels of the head's loss against the plain one; on a CPU by Triton's interpreter."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from phasebench.bench.vram.predict import predicting
from phasebench.dynamics.gpu import launch as gpu
from phasebench.models import cross_entropy as logits
from phasebench.models.cross_entropy import linear_cross_entropy

V, D = 77, 16


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cpu":
        if torch.cuda.is_available():
            pytest.skip("the kernels run on the GPU of this machine")
        pytest.importorskip("triton", reason="Triton is not installed")
        monkeypatch.setattr(gpu, "INTERPRETED", True)
    monkeypatch.setattr(logits, "BLOCK", 32)  # several blocks a row, the last not full
    return request.param


def problem(device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    y, t = torch.randn(9, 96) * 4, torch.randint(V, (9, 1))
    y[:, V:] = 0.0
    return y.to(device, dtype), t.to(device), torch.rand(9, 1).to(device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_kernels_agree_with_softmax(device: str, dtype: torch.dtype) -> None:
    y, t, w = problem(device, dtype)
    exact = y[:, :V].double()
    c, at_target = logits.normalizers(y.clone(), t, V)
    torch.testing.assert_close(c, exact.logsumexp(-1, keepdim=True).float())
    assert torch.equal(at_target, exact.gather(1, t).float())
    found = logits.gradients(y, t, c, w, V)
    wanted = w * (exact.softmax(-1) - F.one_hot(t[:, 0], V))
    assert found.data_ptr() == y.data_ptr()
    assert not found[:, V:].any()
    torch.testing.assert_close(found[:, :V], wanted.to(dtype))


@pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning"
)  # numpy's, which interprets
def test_not_finite_logits_show(device: str) -> None:
    y, t, _ = problem(device, torch.float32)
    y[1, 3], y[2, 40], y[3, :V] = torch.nan, torch.inf, -torch.inf
    c, _ = logits.normalizers(y, t, V)
    assert torch.isfinite(c).flatten().tolist() == [True, False, False, False, *[True] * 5]


@pytest.mark.parametrize("autocast", [False, True])
def test_the_loss_by_kernels_is_the_plain_one(device: str, autocast: bool) -> None:
    torch.manual_seed(1)
    z, W = (torch.randn(n, D).to(device).requires_grad_() for n in (13, V))
    targets = torch.randint(V, (13,)).to(device)
    targets[::4] = -100
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        found = linear_cross_entropy(z, W, targets, 5)
        plain = F.cross_entropy(F.linear(z, W).float(), targets, reduction="sum", ignore_index=-100)
    tolerance = {"rtol": 0.02, "atol": 0.02} if autocast else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found, plain, **tolerance)
    torch.testing.assert_close(
        torch.autograd.grad(found, (z, W)), torch.autograd.grad(plain, (z, W)), **tolerance
    )


def test_pretending_a_gpu_one_chunk_of_logits_is_held() -> None:
    n, vocab = 512, 20_032
    peaks = {}
    for pretend in (False, True):
        with predicting() as tracker:
            z, W = torch.zeros(n, D, requires_grad=True), torch.zeros(vocab, D)
            before = tracker.peak()
            with (
                gpu.as_on_gpu() if pretend else nullcontext(),
                torch.autocast("cpu", torch.bfloat16),
            ):
                linear_cross_entropy(z, W, torch.zeros(n, dtype=torch.int64), n).backward()
            peaks[pretend] = (tracker.peak() - before) / (n * vocab * 2)
    assert peaks[True] < 1.2
    assert peaks[False] > 2.0
