"""Time and memory of forward + backward of the ODE stack, and of training steps of the whole model,
per method.

Arms are interleaved, their order shuffled each round; medians over the rounds, raw samples kept.
Peaks are measured
with each arm alone.  Times of machines without a GPU compare the arms of one run, nothing else.

Two figures of merit, with n tokens, D channels, H terms of V and k kicks a layer:
    needed FLOPs = k x 8 x 2 n D H    a kick's least work: 2 products forward, 2 to undo it, 4 to
    transpose it ceiling fraction = needed FLOPs / time / ceiling, with the ceiling a square matrix
    product's rate in this run
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
from phasebench.bench.speed.peers import HALF, PEERS, missing, peer
from phasebench.bench.workbench import Workbench, require_ode, require_reference, untrained
from phasebench.config import KoopmanConfig, MeraConfig, ModelConfig, SpeedConfig, TrainConfig
from phasebench.dynamics import HamiltonianFlow, force_evaluations, refused, release
from phasebench.models import build_flow, build_model
from phasebench.results.gate import BenchResult, Comparison, Gate, Metric, Need, table
from phasebench.training import scoring as evaluation
from phasebench.training.step import TrainStep

EXACT, AUTOGRAD, BASELINE = "adjoint_exact", "autograd", "stage1"
REFERENCE = "reference"
PEER = "torchdiffeq_odeint_adjoint"
# what the exact adjoint's time is compared with, by the name in the metrics
COMPARED = {"autograd": AUTOGRAD, "torchdiffeq": PEER, "torchdiffeq_half": PEER + HALF}
ROUNDS = 2  # a time that is gated is the median of at least as many
COLUMNS = ("what", "arm", "precision", "median_ms", "tokens_per_s", "ceiling_fraction", "peak_gb")
Row = dict[str, Any]


Step = Callable[[], object]


STACK, TRAINING = "ode stack", "training"


class Arm(NamedTuple):
    """What is timed: of the ODE stack or in training, a gradient method, a peer or a model, and the
    precision of its products.
    """

    what: str
    name: str
    precision: str


Ideal = dict[str, float | None]  # seconds by precision
Arms = dict[Arm, Callable[[], Step]]


def ceiling(precision: str, device: torch.device) -> float:
    """FLOP/s of a square matrix product in a precision."""
    n = 8192 if device.type == "cuda" else 512
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
    start = torch.randn(2, config.batch, config.seq, model.flow_dim, device=device) / 2**0.5
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
    """Training steps (forward, backward, clipping, AdamW) by each method, Stage 1's of as many
    parameters, and the reference's.
    """
    precision = config.precisions[0]
    configs = {name: model.with_ode(gradient=name) for name in config.methods}
    configs["stage1"] = dataclasses.replace(
        model,
        name="stage1",
        hidden=max(1, model.hidden // 4),
        koopman=KoopmanConfig(),
        mera=MeraConfig(),
    )
    if config.reference:
        configs[REFERENCE] = untrained(config.reference)
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
        return Measured(peak_bytes=alone.peak_bytes[0] if alone.peak_bytes else None)
    except torch.OutOfMemoryError as error:
        return Measured(reason=f"out of memory: {str(error).partition('.')[0]}")
    finally:
        release()
        gc.collect()
        torch.cuda.empty_cache()


def check(workbench: Workbench, config: SpeedConfig) -> None:
    """Raise `ConfigError` for a model without an ODE, or a reference that cannot be timed."""
    require_ode(workbench, config)
    require_reference(config.reference, "speed", config.seq)


def run(workbench: Workbench, config: SpeedConfig) -> BenchResult:
    """Time the methods and the peers on the ODE stack, and the methods and Stage 1 in training.

    Gates only where limits are set, all of them on `adjoint_exact`.
    """
    workbench.release()
    model, device, seed = workbench.config.model, workbench.device, workbench.config.seed
    lacks = missing() if config.peers else None
    rates = {precision: ceiling(precision, device) for precision in config.precisions}
    arms = stack(model, config, config.peers and not lacks, device)
    measured = measure(arms, config, seed, device)
    measured |= measure(training(model, config, device), config, seed, device)
    needed = _needed_flops(model, config)
    ideal = {precision: needed and needed / rate for precision, rate in rates.items()}
    rows = [_row(arm, found, config, ideal) for arm, found in measured.items()]
    metrics = _metrics(rows, rates, config)
    flow = build_flow(model).to(device)
    eager = refused(device, torch.float32, flow.hamiltonian())
    notices = [f"peers not measured: {lacks}"] if lacks else []
    notices += [f"adjoint_exact ran eagerly: {eager}"] if eager else []
    details = {"rows": rows, "table": table(rows, COLUMNS)}
    return BenchResult(metrics, _gates(metrics, config), details, notices)


def _needed_flops(model: ModelConfig, config: SpeedConfig) -> float | None:
    if isinstance(model.ode.potential, dict):  # of whose products nothing is known
        return None
    kicks = force_evaluations(model.ode.integrator, model.ode.steps) * model.blocks
    return kicks * 8 * 2 * config.batch * config.seq * model.flow_dim * model.hidden


def _row(arm: Arm, found: Measured, config: SpeedConfig, ideal_s: Ideal) -> Row:
    median = found.timed and found.timed.median_s
    in_stack, ideal = arm.what == STACK, ideal_s[arm.precision]
    return {
        "what": arm.what,
        "arm": arm.name,
        "precision": arm.precision,
        "median_ms": median and 1e3 * median,
        "tokens_per_s": median and config.batch * config.seq / median,
        "ceiling_fraction": ideal / median if ideal and median and in_stack else None,
        "peak_gb": found.peak_bytes and found.peak_bytes / 1e9,
        "seconds": found.timed and found.timed.seconds,
        "reason": found.reason,
    }


def _metrics(rows: list[Row], rates: dict[str, float], config: SpeedConfig) -> dict[str, Metric]:
    at = {(row["what"], row["arm"], row["precision"]): row for row in rows}
    first = config.precisions[0]
    metrics = {
        f"gemm_ceiling_{name}_tflops": Metric(rate / 1e12, "TFLOP/s")
        for name, rate in rates.items()
    }

    def add(name: str, unit: str, what: str, key: str, *arms: str, precision: str = first) -> None:
        """Add the value of an arm, or the quotient of two arms' values."""
        values, reasons = [], []
        for arm in arms:
            row = at.get((what, arm, precision))
            if row is None:
                reasons.append(f"{arm} is not among the arms of bench.speed")
            elif row[key] is None:
                own = key == "ceiling_fraction"
                lacks = "of a potential of one's own" if own else "without a GPU"
                reasons.append(f"{arm}: {row['reason'] or f'no {key} {lacks}'}")
            else:
                values.append(row[key])
        value = None if reasons else values[0] / values[1] if len(arms) == 2 else values[0]
        metrics[name] = Metric(value, unit, reason=reasons[0] if reasons else None)

    add("ode_stack_median_ms", "ms", STACK, "median_ms", EXACT)
    add("ode_stack_ceiling_fraction", "of the GEMM ceiling", STACK, "ceiling_fraction", EXACT)
    for name, arm in COMPARED.items():
        for precision in config.precisions:
            key, arms = f"{name}_{precision}_over_exact", (arm, EXACT)
            add(key, "times as slow", STACK, "median_ms", *arms, precision=precision)
    others = [BASELINE, *([REFERENCE] if config.reference else [])]
    for name in others:
        add(f"steps_per_s_over_{name}", f"{EXACT} / {name}", TRAINING, "median_ms", name, EXACT)
    for name in (*others, AUTOGRAD):
        add(f"training_peak_over_{name}", f"{EXACT} / {name}", TRAINING, "peak_gb", EXACT, name)
    unit = f"{EXACT} / {AUTOGRAD}"
    add("training_time_over_autograd", unit, TRAINING, "median_ms", EXACT, AUTOGRAD)
    return metrics


def _gates(metrics: dict[str, Metric], config: SpeedConfig) -> list[Gate]:
    first = config.precisions[0]
    limits: list[tuple[str, float | None, Comparison]] = [
        ("ode_stack_median_ms", config.max_ms, "<="),
        ("ode_stack_ceiling_fraction", config.min_ceiling_fraction, ">="),
        *((f"autograd_{p}_over_exact", config.min_over_autograd, ">=") for p in config.precisions),
        (f"torchdiffeq_{first}_over_exact", config.min_over_torchdiffeq, ">="),
        ("steps_per_s_over_stage1", config.min_stage1_rate, ">="),
        ("training_peak_over_stage1", config.max_stage1_peak, "<="),
    ]
    needs = [Need("timed rounds", config.repeats, ROUNDS)]
    return [
        Gate.check(name, metrics[name], comparison, limit, needs)
        for name, limit, comparison in limits
        if limit is not None
    ]
