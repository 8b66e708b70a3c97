"""Time and memory of forward + backward: of the ODE stack alone and of the whole model, per gradient method.

Arms are interleaved, their order shuffled each round; medians over the rounds, raw samples kept.  Times on a machine
without a GPU are labelled by the environment only: they compare arms of one run, nothing else.

Two figures of merit, with n tokens, D channels, H terms of V and k kicks a layer:
    needed FLOPs = k x 8 x 2 n D H    a kick's least work: 2 products forward, 2 to undo it, 4 to transpose it
    ceiling fraction = needed FLOPs / time / ceiling, with the ceiling a square matrix product's rate in this run
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from phasebench import evaluation
from phasebench.bench.peers import PEERS, missing, peer
from phasebench.config import ModelConfig, SpeedConfig
from phasebench.dynamics import force_evaluations
from phasebench.measure.clock import Timed, interleaved
from phasebench.models import build_flow, build_model
from phasebench.results import BenchResult, Gate, Metric
from phasebench.workbench import Workbench, require_ode

EXACT = "adjoint_exact"
Arms = dict[str, Callable[[], object]]


def check(workbench: Workbench, config: SpeedConfig) -> None:
    """Raise `ConfigError` for a model without an ODE."""
    require_ode(workbench.config)


def run(workbench: Workbench, config: SpeedConfig) -> BenchResult:
    """Time the methods and the peers on the ODE stack, and the methods and Stage 1 on the whole model.

    Gates only where `max_ms` or `min_ceiling_fraction` are set, both on `adjoint_exact`.
    """
    check(workbench, config)
    workbench.release()
    model, device = workbench.config.model, workbench.device
    options = {"repeats": config.repeats, "warmup": config.warmup, "seed": workbench.config.seed, "device": device}
    ceiling = _ceiling(config, device)
    stack = interleaved(_stack(model, config, device), **options)
    whole = interleaved(_whole(model, config, device), **options)
    needed = _needed_flops(model, config)
    rows = [_row("ode stack", name, timed, config, needed / ceiling) for name, timed in stack.items()]
    rows += [_row("model", name, timed, config, None) for name, timed in whole.items()]
    return _result(rows, config, ceiling)


def _ceiling(config: SpeedConfig, device: torch.device) -> float:
    """FLOP/s of a square matrix product in the run's precision."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, n, n, device=device, dtype=evaluation.AUTOCAST_DTYPES.get(config.precision))
    with evaluation.matmul_precision(config.precision):
        timed = interleaved({"gemm": lambda: a @ b}, repeats=10, warmup=3, seed=0, device=device)
    return 2 * n**3 / timed["gemm"].median_s


def _stack(model: ModelConfig, config: SpeedConfig, device: torch.device) -> Arms:
    """Forward + backward through one flow a block, by each method and peer, from the same states and weights."""
    torch.manual_seed(0)
    flows = [build_flow(model).to(device) for _ in range(model.blocks)]
    start = torch.randn(2, config.batch, config.seq, model.dim, device=device) / 2**0.5
    dtype = evaluation.AUTOCAST_DTYPES.get(config.precision)

    def method(name: str) -> Callable[[], object]:
        layers: list[Any] = [copy.deepcopy(flow) for flow in flows]
        for layer in layers:
            layer.gradient = name
        return lambda: _pass(layers, start, config, device)

    arms = {name: method(name) for name in config.methods}
    if config.peers and not missing():
        for name in PEERS:
            layers = [peer(name, copy.deepcopy(flow), dtype) for flow in flows]
            arms[name] = lambda layers=layers: _pass(layers, start, config, device)
    return arms


def _pass(layers: list[Any], start: Tensor, config: SpeedConfig, device: torch.device) -> None:
    q, p = (x.detach().requires_grad_() for x in start)
    with evaluation.matmul_precision(config.precision):
        with evaluation.autocast(device, config.precision):
            for layer in layers:
                q, p = layer(q, p)
        (q.square().mean() + p.square().mean()).backward()


def _whole(model: ModelConfig, config: SpeedConfig, device: torch.device) -> Arms:
    """Forward + backward of the language model and its loss, by each method, and Stage 1's of as many parameters."""
    tokens = torch.randint(0, config.vocab, (config.batch, config.seq), device=device)
    configs = {
        name: dataclasses.replace(model, ode=dataclasses.replace(model.ode, gradient=name)) for name in config.methods
    }
    configs["stage1"] = dataclasses.replace(model, name="stage1", hidden=max(1, model.hidden // 4))

    def arm(made: Any) -> Callable[[], object]:
        def step() -> None:
            made.zero_grad(set_to_none=True)
            with evaluation.matmul_precision(config.precision):
                with evaluation.autocast(device, config.precision):
                    nats, _ = made.loss(tokens, tokens, config.loss_chunk)
                nats.backward()

        return step

    return {name: arm(build_model(found, config.vocab).to(device)) for name, found in configs.items()}


def _needed_flops(model: ModelConfig, config: SpeedConfig) -> float:
    kicks = force_evaluations(model.ode.integrator, model.ode.steps) * model.blocks
    return kicks * 8 * 2 * config.batch * config.seq * model.dim * model.hidden


def _row(what: str, name: str, timed: Timed, config: SpeedConfig, ideal_s: float | None) -> dict[str, Any]:
    return {
        "what": what, "arm": name, "median_ms": 1e3 * timed.median_s,
        "tokens_per_s": config.batch * config.seq / timed.median_s,
        "ceiling_fraction": None if ideal_s is None else ideal_s / timed.median_s,
        "peak_gb": None if timed.peak_bytes is None else max(timed.peak_bytes) / 1e9,
        "seconds": timed.seconds, "peak_bytes": timed.peak_bytes,
    }  # fmt: skip


def _result(rows: list[dict[str, Any]], config: SpeedConfig, ceiling: float) -> BenchResult:
    at = {(row["what"], row["arm"]): row for row in rows}
    exact, none = at.get(("ode stack", EXACT)), f"{EXACT} is not among bench.speed.methods"
    metrics = {"gemm_ceiling_tflops": Metric(ceiling / 1e12, "TFLOP/s")}
    for key, unit in (("median_ms", "ms"), ("ceiling_fraction", "of the GEMM ceiling")):
        metrics[f"ode_stack_{key}"] = Metric(exact[key] if exact else None, unit, reason=none)
    stage1, stage2 = at[("model", "stage1")], at.get(("model", EXACT))
    ratio = stage1["median_ms"] / stage2["median_ms"] if stage2 else None
    metrics["steps_per_s_over_stage1"] = Metric(ratio, "Stage 2 / Stage 1", reason=none)
    gates = []
    for key, limit, passes, sign in (
        ("median_ms", config.max_ms, lambda x, y: x <= y, "<="),
        ("ceiling_fraction", config.min_ceiling_fraction, lambda x, y: x >= y, ">="),
    ):
        value = exact[key] if exact else None
        if limit is not None:
            passed = None if value is None else passes(value, limit)
            gates.append(Gate(f"ode_stack_{key}", passed, value, f"{sign} {limit:g}", none))
    notices = [f"peers not measured: {missing()}"] if config.peers and missing() else []
    return BenchResult(metrics, gates, {"rows": rows, "table": _table(rows)}, notices=notices)


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ["what", "arm", "median_ms", "tokens_per_s", "ceiling_fraction", "peak_gb"]
    return {"columns": [key.replace("_", " ") for key in keys], "rows": [[row[key] for key in keys] for row in rows]}
