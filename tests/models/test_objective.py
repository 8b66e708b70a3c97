"""The margin and the selection of the head's loss, against plain ones by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from phasebench.config import ConfigError, EntropicConfig
from phasebench.dynamics.gpu import launch as gpu
from phasebench.models import cross_entropy
from phasebench.models.cross_entropy import linear_cross_entropy
from phasebench.models.objective import PLAIN, Objective
from phasebench.models.tied_table import Deferred, lookup

V, D, N = 77, 16, 21
SCORES = ("excess", "surprisal", "entropy")


def problem(dtype: torch.dtype = torch.float64, device: str = "cpu") -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    z, W = (torch.randn(n, D).to(device, dtype).requires_grad_() for n in (N, V))
    targets = torch.randint(V, (N,)).to(device)
    targets[::6] = -100
    return z, W, targets


def plain(z: Tensor, W: Tensor, targets: Tensor, objective: Objective) -> Tensor:
    """By all logits at once, and a loop for the ranks."""
    y, known = z @ W.T, targets.clamp(min=0)[:, None]
    p = y.softmax(1)
    surprisal = -p.log().gather(1, known)[:, 0]
    entropy = -(p * p.log()).sum(1)
    by = {"excess": surprisal - entropy, "surprisal": surprisal, "entropy": entropy}
    length = W.detach().norm(dim=1)[known] * z.norm(dim=1, keepdim=True)
    y = y - objective.margin * length * F.one_hot(known[:, 0], V)
    losses = F.cross_entropy(y, targets, ignore_index=-100, reduction="none")
    if objective.score == "off":
        return losses.sum()
    values = by[objective.score].tolist()
    order = sorted((i for i in range(N) if targets[i] >= 0), key=lambda i: (-values[i], i))
    return losses[order[slice(*objective.ranks(N))]].sum()


@pytest.mark.parametrize("score", ["off", *SCORES])
@pytest.mark.parametrize("margin", [0.0, 0.05, 5.0])
@pytest.mark.parametrize("later", [False, True], ids=["now", "deferred"])
def test_loss_and_gradients_are_the_plain_ones(score: str, margin: float, later: bool) -> None:
    z, W, targets = problem()
    objective = Objective(margin, score, keep=0.6, noise=0.1)
    wanted = plain(z, W, targets, objective)
    deferred = Deferred()
    tokens = torch.zeros(1, 0, dtype=torch.int64)
    head = lookup(W, tokens, deferred)[1]
    if later:
        loss = linear_cross_entropy(z, head.detach(), targets, 5, deferred, objective)
    else:
        loss = linear_cross_entropy(z, head, targets, 5, objective=objective)
    loss = loss + 0.0 * head.sum()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (z, W)), torch.autograd.grad(wanted, (z, W))
    )


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_kernels_agree(score: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cpu":
        if torch.cuda.is_available():
            pytest.skip("the kernels run on the GPU of this machine")
        pytest.importorskip("triton", reason="Triton is not installed")
        monkeypatch.setattr(gpu, "INTERPRETED", True)
    monkeypatch.setattr(cross_entropy, "BLOCK", 32)
    z, W, targets = problem(torch.float32, device)
    objective = Objective(0.05, score, keep=0.6)
    loss = linear_cross_entropy(z, W, targets, 5, objective=objective)
    wanted = plain(z, W, targets, objective)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (z, W)),
        torch.autograd.grad(wanted, (z, W)),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("score", ["off", "excess"])
@pytest.mark.parametrize("later", [False, True], ids=["now", "deferred"])
def test_label_smoothing_is_torchs(score: str, later: bool) -> None:
    z, W, targets = problem()
    smooth, rough = (Objective(0.0, score, 0.6, 0.1, smoothing=a) for a in (0.2, 0.0))
    losses = F.cross_entropy(z @ W.T, targets, reduction="none", label_smoothing=0.2)
    # what is scored depends on the logits, not on the targets' smoothness
    c = torch.logsumexp(z @ W.T, 1, keepdim=True)
    mean = ((z @ W.T - c).exp() * (z @ W.T)).sum(1, keepdim=True)
    at_target = (z @ W.T).gather(1, targets.clamp(min=0)[:, None])
    chosen = rough.choose(targets, c, at_target, mean)
    wanted = losses.sum() if chosen is None else losses[chosen].sum()
    deferred = Deferred()
    head = lookup(W, torch.zeros(1, 0, dtype=torch.int64), deferred)[1]
    own = (z, head.detach(), targets, 5, deferred) if later else (z, head, targets, 5, None)
    loss = linear_cross_entropy(*own, smooth) + 0.0 * head.sum()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(loss, (z, W)), torch.autograd.grad(wanted, (z, W))
    )


def test_smoothed_gradients_under_autocast_are_those_of_float32_but_for_rounding() -> None:
    z, W, targets = problem(torch.float32)
    gradients = []
    for low in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = linear_cross_entropy(z, W, targets, 5, objective=Objective(smoothing=0.2))
        gradients.append(torch.autograd.grad(loss, (z, W)))
    torch.testing.assert_close(*gradients, rtol=0.05, atol=0.05)


def test_a_hopeless_objection_costs_its_size_and_a_state_of_zeros_nothing() -> None:
    z, W, targets = problem()
    with torch.no_grad():
        z[1] = 0.0
    loss = linear_cross_entropy(z, W, targets, 5, objective=Objective(200.0))
    assert 1000 < loss < math.inf
    assert all(torch.isfinite(x).all() for x in torch.autograd.grad(loss, (z, W)))


def test_without_an_objective_the_bits_are_the_same() -> None:
    z, W, targets = problem(torch.float32)
    results = []
    for objective in (PLAIN, Objective(0.0, "off", 0.5, 0.1)):
        loss = linear_cross_entropy(z, W, targets, 5, objective=objective)
        results.append((loss, *torch.autograd.grad(loss, (z, W))))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.6, 1.0])
def test_the_kept_fraction_is_exact_and_equals_rank_by_place(keep: float) -> None:
    targets, level = torch.zeros(200, dtype=torch.int64), torch.zeros(200, 1)
    objective = Objective(score="surprisal", keep=keep)
    chosen = objective.choose(targets, level, level, None)
    assert chosen is not None
    assert chosen.tolist() == list(range(round(200 * keep)))
    assert objective.scored(targets) == round(200 * keep)


def test_the_largest_are_left_out_as_noise() -> None:
    c = torch.arange(10.0)[:, None]
    objective = Objective(score="surprisal", keep=0.5, noise=0.2)
    chosen = objective.choose(torch.zeros(10, dtype=torch.int64), c, torch.zeros(10, 1), None)
    assert chosen is not None
    assert chosen.tolist() == [7, 6, 5]


def test_targets_of_nobody_are_not_counted() -> None:
    targets = torch.full((2, 10), -100)
    targets[0, :7] = 3
    counts = [
        int(Objective(score="excess", keep=k, noise=0.1).scored(targets)) for k in (0.2, 0.3, 0.9)
    ]
    assert counts == [2, 4, 5]
    assert PLAIN.scored(targets) == 7


def test_random_ranks_follow_the_seed() -> None:
    targets, c = torch.zeros(50, dtype=torch.int64), torch.zeros(50, 1)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        chosen = Objective(score="random", keep=0.5).choose(targets, c, c, None)
        assert chosen is not None
        drawn.append(chosen.sort().values.tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 25


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"noise": 0.6}, "noise"),
        ({"score": "random", "noise": 0.1}, "noise"),
        ({"score": "excess", "warmup": 0.7}, "warmup"),
    ],
)
def test_selections_of_nothing_are_refused(values: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EntropicConfig(**values)  # type: ignore[arg-type]
    assert caught.value.key == key
