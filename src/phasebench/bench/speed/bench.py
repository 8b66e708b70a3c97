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

from typing import Any

from phasebench.bench.speed.arms import Arm, Measured, ceiling, measure, stack, training
from phasebench.bench.speed.peers import HALF, missing
from phasebench.bench.workbench import Workbench, require_ode
from phasebench.config import ModelConfig, SpeedConfig
from phasebench.dynamics import force_evaluations, refused
from phasebench.models import build_flow
from phasebench.results.gate import BenchResult, Comparison, Gate, Metric, Need

EXACT, AUTOGRAD, PEER, BASELINE = (
    "adjoint_exact",
    "autograd",
    "torchdiffeq_odeint_adjoint",
    "stage1",
)
ROUNDS = 2  # a time that is gated is the median of at least as many
Row = dict[str, Any]


def check(workbench: Workbench, config: SpeedConfig) -> None:
    """Raise `ConfigError` for a model without an ODE."""
    require_ode(workbench.config)


def run(workbench: Workbench, config: SpeedConfig) -> BenchResult:
    """Time the methods and the peers on the ODE stack, and the methods and Stage 1 in training.

    Gates only where limits are set, all of them on `adjoint_exact`.
    """
    check(workbench, config)
    workbench.release()
    model, device, seed = workbench.config.model, workbench.device, workbench.config.seed
    lacks = missing() if config.peers else None
    rates = {precision: ceiling(precision, device) for precision in config.precisions}
    flows = measure(stack(model, config, config.peers and not lacks, device), config, seed, device)
    whole = measure(training(model, config, device), config, seed, device)
    needed = _needed_flops(model, config)
    rows = [
        _row("ode stack", arm, found, config, needed / rates[arm.precision])
        for arm, found in flows.items()
    ]
    rows += [_row("training", arm, found, config, None) for arm, found in whole.items()]
    metrics = _metrics(rows, rates, config)
    flow = build_flow(model).to(device)
    eager = refused(device, flow.W.dtype, flow.hamiltonian())
    notices = [f"peers not measured: {lacks}"] * bool(lacks) + [
        f"adjoint_exact ran eagerly: {eager}"
    ] * bool(eager)
    return BenchResult(
        metrics, _gates(metrics, config), {"rows": rows, "table": _table(rows)}, notices=notices
    )


def _needed_flops(model: ModelConfig, config: SpeedConfig) -> float:
    kicks = force_evaluations(model.ode.integrator, model.ode.steps) * model.blocks
    return kicks * 8 * 2 * config.batch * config.seq * model.dim * model.hidden


def _row(what: str, arm: Arm, found: Measured, config: SpeedConfig, ideal_s: float | None) -> Row:
    timed, peak = found.timed, found.peak_bytes
    median = timed.median_s if timed else None
    return {
        "what": what,
        "arm": arm.name,
        "precision": arm.precision,
        "median_ms": median and 1e3 * median,
        "tokens_per_s": median and config.batch * config.seq / median,
        "ceiling_fraction": ideal_s and median and ideal_s / median,
        "peak_gb": peak and peak / 1e9,
        "seconds": timed.seconds if timed else None,
        "reason": found.reason,
    }


def _metrics(rows: list[Row], rates: dict[str, float], config: SpeedConfig) -> dict[str, Metric]:
    at = {(row["what"], row["arm"], row["precision"]): row for row in rows}
    first = config.precisions[0]
    metrics = {
        f"gemm_ceiling_{name}_tflops": Metric(rate / 1e12, "TFLOP/s")
        for name, rate in rates.items()
    }

    def value(what: str, arm: str, precision: str, key: str) -> float | str:
        row = at.get((what, arm, precision))
        if row is None:
            return f"{arm} is not among the arms of bench.speed"
        reason = row["reason"] or f"no {key} without a GPU"
        return f"{arm}: {reason}" if row[key] is None else row[key]

    def add(name: str, unit: str, top: float | str, bottom: float | str = 1.0) -> None:
        reason = next((x for x in (top, bottom) if isinstance(x, str)), None)
        number = None if isinstance(top, str) or isinstance(bottom, str) else top / bottom
        metrics[name] = Metric(number, unit, reason=reason)

    add("ode_stack_median_ms", "ms", value("ode stack", EXACT, first, "median_ms"))
    fraction = value("ode stack", EXACT, first, "ceiling_fraction")
    add("ode_stack_ceiling_fraction", "of the GEMM ceiling", fraction)
    names = {AUTOGRAD: "autograd", PEER: "torchdiffeq", PEER + HALF: "torchdiffeq_half"}
    for arm, name in names.items():
        for precision in config.precisions:
            times = (value("ode stack", found, precision, "median_ms") for found in (arm, EXACT))
            add(f"{name}_{precision}_over_exact", "times as slow", *times)
    steps = (value("training", found, first, "median_ms") for found in (BASELINE, EXACT))
    add("steps_per_s_over_stage1", "Stage 2 / Stage 1", *steps)
    for name in (BASELINE, AUTOGRAD):
        peaks = (value("training", found, first, "peak_gb") for found in (EXACT, name))
        add(f"training_peak_over_{name}", f"adjoint_exact / {name}", *peaks)
    times = (value("training", found, first, "median_ms") for found in (EXACT, AUTOGRAD))
    add("training_time_over_autograd", "adjoint_exact / autograd", *times)
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


def _table(rows: list[Row]) -> dict[str, Any]:
    keys = ["what", "arm", "precision", "median_ms", "tokens_per_s", "ceiling_fraction", "peak_gb"]
    return {
        "columns": [key.replace("_", " ") for key in keys],
        "rows": [[row[key] for key in keys] for row in rows],
    }
