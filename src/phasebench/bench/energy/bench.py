"""Conservation of energy along each layer's flow, on trained weights and states of real text.

`phasebench.dynamics.energy` says what drift and exchange are. max_drift and mean_drift are over
layers, tokens and steps, and over the seeds whose weights are measured. An accurate flow's drift is
small beside its exchange; in a flow that stands still both are small. The mean energy of a batch
drifts far less than its tokens do, and is reported beside them. States and forces are float32
unless bench.energy.precision is fp64, energies float64. docs/energy.md describes the details.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import torch

from phasebench.bench.energy.compare import TIMED, cast, compare, drifts, grid, orders, seconds
from phasebench.bench.energy.interaction import Interaction, interactions, perplexities
from phasebench.bench.energy.layer import Layer, row, thinning
from phasebench.bench.evidence import moved, trained, weight_change, worst
from phasebench.bench.workbench import Workbench, require_ode
from phasebench.config import ConfigError, EnergyConfig
from phasebench.dynamics import CONTRAST, PerceptronPotential, force_evaluations
from phasebench.dynamics.energy import Start, energies, flow_starts
from phasebench.results.gate import BenchResult, Comparison, Gate, Metric, table
from phasebench.results.progress import track
from phasebench.training import scoring as evaluation
from phasebench.training.weights import Trained

_PLAIN = "leapfrog"  # whose cost is stated beside that of every other integrator
# a metric, how it compares with its limit, and the key of the limit
_GATES: tuple[tuple[str, Comparison, str], ...] = (
    ("max_drift", "<", "target"),
    ("secular_change", "<", "secular_target"),
    ("force_share", ">=", "force_share_target"),
    ("learned_exchange", ">=", "exchange_target"),
    ("nonlinearity", ">=", "nonlinearity_target"),
    ("beyond_linear", ">=", "beyond_linear_target"),
    ("discretisation_change_pct", "<=", "discretisation_target"),
)
_INTERACTION = {
    "force_share": "of free motion, least layer",
    "learned_exchange": "E_ref, least layer",
    "nonlinearity": "of what the force does, least layer",
    "beyond_linear": "of what the force does, least layer",
}
_PERPLEXITIES = {"flow": "ppl_flow", "first_order": "ppl_first_order", "free": "ppl_without_force"}
_COLUMNS = (
    "integrator",
    "dt",
    "precision",
    "max_drift",
    "mean_drift",
    "force_evaluations",
    "seconds",
)


@dataclass(frozen=True)
class _Flows:
    """The flows of the layers of one seed's model, with the states that they start from."""

    seed: int
    trained: Trained
    starts: list[Start]
    layers: list[Layer]
    weight_change: float
    interactions: list[Interaction]
    perplexities: dict[str, float]


def check(workbench: Workbench, config: EnergyConfig) -> None:
    """Raise `ConfigError` for a model without a Hamiltonian flow, too little text, or a dt that
    ends elsewhere.
    """
    require_ode(workbench, config)
    if config.compensated and config.integrator in CONTRAST:
        problem = f"{config.integrator} has no sums of kicks and drifts"
        fix = "bench.energy.compensated=false, or a symplectic integrator"
        raise ConfigError("bench.energy.compensated", True, problem, fix)
    needed, there = config.batch * config.seq, len(workbench.corpus.splits[config.split].tokens)
    if there < needed:
        problem = f"batch x seq is {needed:,} tokens, but the {config.split} split has {there:,}"
        fix = "lower bench.energy.batch or bench.energy.seq"
        raise ConfigError("bench.energy.seq", config.seq, problem, fix)
    if workbench.config.model.checkpoint and config.seeds:
        problem = "a given checkpoint is of one seed"
        fix = "bench.energy.seeds=null, or model.checkpoint=null"
        raise ConfigError("bench.energy.seeds", config.seeds, problem, fix)
    grid(config)


def run(workbench: Workbench, config: EnergyConfig) -> BenchResult:
    """Integrate every layer's flow from the states of the split's first tokens and judge drift and
    trend.

    Raises `evaluation.NotFinite` if a trajectory leaves the finite numbers, and what `check`
    raises.
    """
    check(workbench, config)
    seeds = config.seeds or [workbench.config.seed]
    weights = {seed: workbench.trained(workbench.config.model, "model", seed) for seed in seeds}
    with torch.no_grad(), evaluation.autocast(workbench.device, "fp32"):
        models = [_flows(workbench, config, *each) for each in weights.items()]
        starts = models[0].starts
        integrator = config.integrator or starts[0][0].integrator
        # of the flows alone, without their energies, by the integrator and by leapfrog at the same
        # dt
        timed_steps = min(config.steps, TIMED)
        timed = seconds(starts, (integrator, _PLAIN), timed_steps, config.dt, workbench.device)
        rows = []
        if config.integrators or config.dts:
            rows = compare(starts, config, seeds[0], workbench.device)
    metrics = _metrics(models) | _interaction(config, models)
    for name, suffix in ((integrator, ""), (_PLAIN, f"_of_{_PLAIN}")):
        evaluations = force_evaluations(name, config.steps)
        metrics[f"force_evaluations{suffix}"] = Metric(evaluations, "a layer", "counted")
        metrics[f"flow_seconds{suffix}"] = Metric(
            timed[name].median_s, f"s, all layers, {timed_steps} steps"
        )
    details = _details(config, models, integrator)
    details["flow_seconds_samples"] = {name: samples.seconds for name, samples in timed.items()}
    if rows:
        shown = [row for row in rows if row["precision"] == config.precisions[0]]
        details |= {"compare": rows, "orders": orders(rows), "table": table(shown, _COLUMNS)}
    return BenchResult(metrics, _gates(config, metrics, models), details, _notices(config, models))


def _flows(workbench: Workbench, config: EnergyConfig, seed: int, weights: Trained) -> _Flows:
    tokens = workbench.corpus.splits[config.split].tokens[: config.batch * config.seq]
    tokens = tokens.view(config.batch, config.seq).to(workbench.device)
    model, settings = weights.model, workbench.config.model
    starts = cast(flow_starts(model, tokens), config.precision)
    layers = []
    for i, (ode, q, p) in enumerate(track(starts, f"layers of seed {seed}", len(starts))):
        trace = energies(
            ode,
            q,
            p,
            steps=config.steps,
            dt=config.dt,
            integrator=config.integrator,
            compensated=config.compensated,
        )
        if trace.bad_step is not None:
            problem = f"the energy of layer {i} is not finite from step {trace.bad_step} on"
            raise evaluation.NotFinite(problem)
        layers.append(Layer.of(trace, seed, i, config.dt))
    return _Flows(
        seed,
        weights,
        starts,
        layers,
        weight_change(model, settings, workbench.corpus.vocab_size, seed),
        interactions(workbench, config, model),
        perplexities(workbench, config, model),
    )


def _details(config: EnergyConfig, models: list[_Flows], integrator: str) -> dict[str, Any]:
    layers = [layer for model in models for layer in model.layers]
    every = thinning(config.steps, len(layers))
    return {
        "integrator": integrator,
        "steps": config.steps,
        "dt": config.dt,
        "precision": config.precision,
        "every": every,
        "layers": [row(layer, every) for layer in layers],
        "interaction": [
            {"seed": model.seed, "layer": i} | vars(each)
            for model in models
            for i, each in enumerate(model.interactions)
        ],
        "perplexities": [{"seed": m.seed, "fine": None} | m.perplexities for m in models],
        "weights": models[0].trained.origin,
        "seeds": [model.seed for model in models],
    }


def _notices(config: EnergyConfig, models: list[_Flows]) -> list[str]:
    notices = [notice for model in models for notice in model.trained.notices]
    V = models[0].starts[0][0].potential
    ours = isinstance(V, PerceptronPotential)
    if not ours or V.eps is None:
        why = "model.ode.normalize=false" if ours else "model.ode.potential is one's own"
        notices.append(
            f"{why}: V need not have a floor, and trajectories may leave; "
            "max_q and max_drift say how far"
        )
    if config.compensated:
        notices.append(
            "bench.energy.compensated=true: states carry what rounding takes from their sums, "
            "which no model does; the drift is the integrator's"
        )
    if config.precision == "fp64":
        notices.append(
            "states and forces were float64, in which no model runs: rounding is left out"
        )
    return notices


def _metrics(models: list[_Flows]) -> dict[str, Metric]:
    """Means and largest values over the layers."""
    layers = [layer for model in models for layer in model.layers]
    traces, rising = [layer.trace for layer in layers], sum(x.trend.monotonic for x in layers)
    drift = drifts(traces)
    exchange = statistics.fmean(trace.exchange.mean().item() for trace in traces)
    still = "no energy was exchanged: the flow stands still"
    steepest = max((layer.slope for layer in layers), key=lambda fitted: abs(fitted.change))
    values = {
        "mean_energy": (statistics.fmean(t.mean_energy for t in traces), "energy per token"),
        **{name: (value, "E_ref") for name, value in drift.items()},
        "mean_exchange": (exchange, "E_ref"),
        "monotonic_violation": (rising > 0, "true or false"),
        "monotone_layers": (rising, "layers that rise or fall"),
        "steepest_slope": (steepest.slope, "E_ref per unit of time"),
        "steepest_slope_error": (steepest.error, "E_ref per unit of time"),
        "secular_change": (max(x.secular for x in layers), "E_ref over the run, at most"),
        "max_q": (max(t.max_q.max().item() for t in traces), "largest |q| of a token"),
        "max_p": (max(t.max_p.max().item() for t in traces), "largest |p| of a token"),
        "max_free_q": (max(t.free_q for t in traces), "largest |q| without a force"),
        "max_drift_over_exchange": (drift["max_drift"] / exchange if exchange else None, "1"),
    }
    return {
        key: Metric(value, unit, reason=still if value is None else None)
        for key, (value, unit) in values.items()
    }


def _interaction(config: EnergyConfig, models: list[_Flows]) -> dict[str, Metric]:
    """What the flows do, least over layers and seeds; what the model makes of it, least over seeds.

    Perplexities are means over the seeds, changes in % the worst seed's.
    """
    each = [values for model in models for values in model.interactions]
    metrics = {}
    for name, unit in _INTERACTION.items():
        values = [getattr(layer, name) for layer in each]
        metrics[name] = Metric(math.nan if any(map(math.isnan, values)) else min(values), unit)
    scores = [model.perplexities for model in models]
    for key, name in _PERPLEXITIES.items():
        mean = statistics.fmean(score[key] for score in scores)
        metrics[name] = Metric(mean, "perplexity per token, no overlap")
    least = min(100 * (score["first_order"] / score["flow"] - 1) for score in scores)
    metrics["first_order_change_pct"] = Metric(least, "% of perplexity, least seed")
    fine = worst(100 * abs(s["fine"] / s["flow"] - 1) for s in scores if "fine" in s)
    reason = f"steps of {config.dt:g} do not divide the time of the flow" if fine is None else None
    unit = f"% of perplexity in steps of {config.dt:g}"
    metrics["discretisation_change_pct"] = Metric(fine, unit, reason=reason)
    return metrics


def _gates(config: EnergyConfig, metrics: dict[str, Metric], models: list[_Flows]) -> list[Gate]:
    starts, time = [start for model in models for start in model.starts], config.steps * config.dt
    motion = min(time * (p.norm() / q.norm()).item() for _, q, p in starts)
    needs = [moved(motion), trained(min(model.weight_change for model in models))]
    gates = [
        Gate.check(name, metrics[name], comparison, target, needs)
        for name, comparison, key in _GATES
        if (target := getattr(config, key)) is not None
    ]
    monotone, note = metrics["monotone_layers"], f"of {len(starts)}"
    return [*gates, Gate.check("monotone_layers", monotone, "==", 0, needs, note)]
