"""What bench.speed times: a flow a block by each method and peer, and training steps of whole
models.

Each arm is a maker: called, it builds what it needs and returns the thing to time.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from phasebench.bench.clock import Timed, interleaved
from phasebench.bench.speed.peers import PEERS, peer
from phasebench.config import ModelConfig, SpeedConfig, TrainConfig
from phasebench.dynamics import HamiltonianFlow, release
from phasebench.models import build_flow, build_model
from phasebench.training import scoring as evaluation
from phasebench.training.step import TrainStep

Step = Callable[[], object]


STACK, TRAINING = "ode stack", "training"


class Arm(NamedTuple):
    """What is timed: of the ODE stack or in training, a gradient method, a peer or a model, and the
    precision of its products.
    """

    what: str
    name: str
    precision: str


Arms = dict[Arm, Callable[[], Step]]


def ceiling(precision: str, device: torch.device) -> float:
    """FLOP/s of a square matrix product in a precision."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, n, n, device=device, dtype=evaluation.AUTOCAST_DTYPES.get(precision))
    with evaluation.matmul_precision(precision):
        timed = interleaved({"gemm": lambda: a @ b}, repeats=10, warmup=3, seed=0, device=device)
    return 2 * n**3 / timed["gemm"].median_s


def stack(model: ModelConfig, config: SpeedConfig, peers: bool, device: torch.device) -> Arms:
    """Forward + backward through one flow a block, from the same states and weights, by each method
    and peer.
    """
    torch.manual_seed(0)
    flows = [build_flow(model).to(device) for _ in range(model.blocks)]
    start = torch.randn(2, config.batch, config.seq, model.dim, device=device) / 2**0.5
    return {
        Arm(STACK, name, precision): partial(_stack_step, flows, start, name, precision)
        for precision in config.precisions
        for name in (*config.methods, *(PEERS if peers else ()))
    }


def _stack_step(flows: list[HamiltonianFlow], start: Tensor, name: str, precision: str) -> Step:
    layers: list[Any] = [copy.deepcopy(flow) for flow in flows]
    for layer in layers:
        layer.gradient = name
    if name in PEERS:
        dtype = evaluation.AUTOCAST_DTYPES.get(precision)
        layers = [peer(name, layer, dtype) for layer in layers]

    def step() -> None:
        q, p = (x.detach().requires_grad_() for x in start)
        with evaluation.matmul_precision(precision):
            with evaluation.autocast(start.device, precision):
                for layer in layers:
                    q, p = layer(q, p)
            (q.square().mean() + p.square().mean()).backward()

    return step


def training(model: ModelConfig, config: SpeedConfig, device: torch.device) -> Arms:
    """Training steps (forward, backward, clipping, AdamW) by each method, and Stage 1's of as many
    parameters.
    """
    precision = config.precisions[0]
    configs = {name: model.with_ode(gradient=name) for name in config.methods}
    configs["stage1"] = dataclasses.replace(model, name="stage1", hidden=max(1, model.hidden // 4))
    tokens = torch.randint(0, config.vocab, (config.batch, config.seq), device=device)
    return {
        Arm(TRAINING, name, precision): partial(_training_step, own, config, tokens)
        for name, own in configs.items()
    }


def _training_step(model: ModelConfig, config: SpeedConfig, tokens: Tensor) -> Step:
    precision, device = config.precisions[0], tokens.device
    recipe = TrainConfig(precision=precision, loss_chunk=config.loss_chunk)
    torch.manual_seed(0)
    update = TrainStep(build_model(model, config.vocab).to(device), recipe, 0, device)

    def step() -> None:
        with evaluation.matmul_precision(precision):
            update(0, (tokens, tokens))

    return step


class Measured(NamedTuple):
    """An arm's samples (None where it ran out of memory) and its peak when it was alone (None
    without a GPU).
    """

    timed: Timed | None = None
    peak_bytes: int | None = None
    reason: str | None = None


def measure(
    arms: Arms, config: SpeedConfig, seed: int, device: torch.device
) -> dict[Arm, Measured]:
    """Each arm's peak, one after the other, with nothing of another's alive; then the times of all,
    interleaved.
    """
    alone = {arm: _alone(make, device) for arm, make in arms.items()}
    things = {str(arm): make() for arm, make in arms.items() if alone[arm].reason is None}
    timed = interleaved(
        things, repeats=config.repeats, warmup=config.warmup, seed=seed, device=device
    )
    return {arm: found._replace(timed=timed.get(str(arm))) for arm, found in alone.items()}


def _alone(make: Callable[[], Step], device: torch.device) -> Measured:
    """The peak of a second step, in bytes of the caching allocator; why there is none, where it ran
    out of memory.
    """
    if device.type != "cuda":
        return Measured()
    try:
        alone = interleaved({"step": make()}, repeats=1, warmup=1, seed=0, device=device)["step"]
        return Measured(peak_bytes=alone.peak_bytes and alone.peak_bytes[0])
    except torch.OutOfMemoryError as error:
        return Measured(reason=f"out of memory: {str(error).partition('.')[0]}")
    finally:
        release()
        gc.collect()
        torch.cuda.empty_cache()
