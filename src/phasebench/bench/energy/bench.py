"""Conservation of energy along the flow of every layer, on trained weights and the hidden states of real text.

`phasebench.dynamics.energy` says what drift and exchange are; max_drift, mean_drift: over layers, tokens and steps, and
over the seeds whose weights are measured.  An accurate flow's drift is small beside its exchange; in a flow that stands
still both are.  The mean energy of a batch drifts far less than its tokens do, and is reported beside them.  States and
forces are float32 unless bench.energy.precision is fp64, energies float64.  docs/energy.md describes the series in the
results' details.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch

from phasebench.bench.energy.compare import cast, compare, grid, orders, seconds, table
from phasebench.bench.energy.layer import Layer, row, thinning
from phasebench.bench.workbench import Workbench, require_ode
from phasebench.config import ConfigError, EnergyConfig
from phasebench.dynamics import force_evaluations
from phasebench.dynamics.energy import Start, energies, flow_starts
from phasebench.results.file import BenchResult, Gate, Metric
from phasebench.training import scoring as evaluation
from phasebench.training.weights import Trained

_PLAIN = "leapfrog"  # whose cost is stated beside that of every other integrator


@dataclass(frozen=True)
class _Flows:
    """The flows of one model's layers, with the states that they start from."""

    seed: int
    trained: Trained
    starts: list[Start]


def check(workbench: Workbench, config: EnergyConfig) -> None:
    """Raise `ConfigError` for a model without a Hamiltonian flow, too little text, or a dt that ends elsewhere."""
    require_ode(workbench.config)
    needed, found = config.batch * config.seq, len(workbench.corpus.splits[config.split].tokens)
    if found < needed:
        problem = f"batch x seq is {needed:,} tokens, but the {config.split} split has {found:,}"
        raise ConfigError(
            "bench.energy.seq", config.seq, problem, "lower bench.energy.batch or bench.energy.seq"
        )
    if workbench.config.model.checkpoint and config.seeds:
        raise ConfigError(
            "bench.energy.seeds",
            config.seeds,
            "a given checkpoint is of one seed",
            "bench.energy.seeds=null, or model.checkpoint=null",
        )
    grid(config)


def run(workbench: Workbench, config: EnergyConfig) -> BenchResult:
    """Integrate every layer's flow from the states of the split's first tokens and judge drift and trend.

    Raises `evaluation.NotFinite` if a trajectory leaves the finite numbers, and what `check` raises.
    """
    check(workbench, config)
    seeds = config.seeds or [workbench.config.seed]
    weights = {seed: workbench.trained(workbench.config.model, "model", seed) for seed in seeds}
    with torch.no_grad(), evaluation.autocast(workbench.device, "fp32"):
        models = [_flows(workbench, config, *found) for found in weights.items()]
        integrator = config.integrator or models[0].starts[0][0].integrator
        layers = [layer for model in models for layer in _layers(model, config)]
        result = _judge(config, layers, integrator)
        _time(result, models[0].starts, config, integrator, workbench)
        if config.integrators or config.dts:
            rows = compare(models[0].starts, config, models[0].seed, workbench.device)
            result.details |= {"compare": rows, "orders": orders(rows), "table": table(rows)}
    result.details |= {
        "weights": models[0].trained.origin,
        "seeds": [model.seed for model in models],
    }
    result.notices += [notice for model in models for notice in model.trained.notices]
    if config.precision == "fp64":
        result.notices.append(
            "states and forces were float64, in which no model runs: rounding is left out"
        )
    return result


def _flows(workbench: Workbench, config: EnergyConfig, seed: int, trained: Trained) -> _Flows:
    tokens = (
        workbench.corpus.splits[config.split]
        .tokens[: config.batch * config.seq]
        .view(config.batch, config.seq)
    )
    starts = flow_starts(trained.model, tokens.to(workbench.device))
    return _Flows(seed, trained, cast(starts, config.precision))


def _layers(model: _Flows, config: EnergyConfig) -> list[Layer]:
    found = []
    for i, (ode, q, p) in enumerate(model.starts):
        trace = energies(ode, q, p, steps=config.steps, dt=config.dt, integrator=config.integrator)
        if trace.bad_step is not None:
            raise evaluation.NotFinite(
                f"the energy of layer {i} is not finite from step {trace.bad_step} on"
            )
        found.append(Layer.of(trace, model.seed, i, config.dt))
    return found


def _judge(config: EnergyConfig, layers: list[Layer], integrator: str) -> BenchResult:
    metrics = _metrics(config, layers, integrator)
    top = {
        key: metrics[key].value
        for key in ("mean_energy", "max_drift", "mean_drift", "monotonic_violation")
    }
    every = thinning(config.steps, len(layers))
    details = {
        "integrator": integrator,
        "steps": config.steps,
        "dt": config.dt,
        "precision": config.precision,
        "every": every,
        "layers": [row(layer, every) for layer in layers],
    }
    return BenchResult(metrics=metrics, gates=_gates(config, layers), details=details, top=top)


def _metrics(config: EnergyConfig, layers: list[Layer], integrator: str) -> dict[str, Metric]:
    """Means and largest values over the layers."""
    traces, rising = [layer.trace for layer in layers], _rising(layers)
    max_drift = max(trace.worst for trace in traces)
    exchange = statistics.fmean(trace.exchange.mean().item() for trace in traces)
    still = None if exchange else "no energy was exchanged: the flow stands still"
    steepest = max((layer.slope for layer in layers), key=lambda fitted: abs(fitted.change))
    return {
        "mean_energy": Metric(
            statistics.fmean(trace.mean_energy for trace in traces), "energy per token"
        ),
        "max_drift": Metric(max_drift, "E_ref"),
        "mean_drift": Metric(
            statistics.fmean(trace.mean_drift.mean().item() for trace in traces), "E_ref"
        ),
        "max_drift_of_batch_mean": Metric(
            max(trace.mean.abs().max().item() for trace in traces), "E_ref"
        ),
        "mean_exchange": Metric(exchange, "E_ref"),
        "max_drift_over_exchange": Metric(
            max_drift / exchange if exchange else None, "1", reason=still
        ),
        "monotonic_violation": Metric(rising > 0, "true or false"),
        "monotone_layers": Metric(rising, "layers that rise or fall"),
        "steepest_slope": Metric(steepest.slope, "E_ref per unit of time"),
        "steepest_slope_error": Metric(steepest.error, "E_ref per unit of time"),
        "secular_change": Metric(_secular(layers), "E_ref over the run, at most"),
        "max_q": Metric(
            max(trace.max_q.max().item() for trace in traces), "largest |q| of a token"
        ),
        "max_p": Metric(
            max(trace.max_p.max().item() for trace in traces), "largest |p| of a token"
        ),
        "max_free_q": Metric(max(trace.free_q for trace in traces), "largest |q| without a force"),
        "force_evaluations": Metric(
            force_evaluations(integrator, config.steps), "a layer", kind="counted"
        ),
        f"force_evaluations_of_{_PLAIN}": Metric(
            force_evaluations(_PLAIN, config.steps), "a layer", kind="counted"
        ),
    }


def _gates(config: EnergyConfig, layers: list[Layer]) -> list[Gate]:
    max_drift, rising, secular = (
        max(layer.trace.worst for layer in layers),
        _rising(layers),
        _secular(layers),
    )
    gates = [
        Gate("max_drift", max_drift < config.target, max_drift, f"< {config.target:g}"),
        Gate("monotone_layers", rising == 0, rising, f"0 of {len(layers)}"),
    ]
    if config.secular_target is not None:
        passed = secular < config.secular_target
        gates.append(Gate("secular_change", passed, secular, f"< {config.secular_target:g}"))
    return gates


def _rising(layers: list[Layer]) -> int:
    """Layers whose mean energy rises or falls throughout."""
    return sum(layer.trend.monotonic for layer in layers)


def _secular(layers: list[Layer]) -> float:
    """The largest fitted change of a layer over the run, in E_ref."""
    return max(layer.secular for layer in layers)


def _time(
    result: BenchResult,
    starts: list[Start],
    config: EnergyConfig,
    integrator: str,
    workbench: Workbench,
) -> None:
    """Seconds of all layers' flows, without their energies, by the integrator and by plain leapfrog at the same dt."""
    timed = seconds(starts, (integrator, _PLAIN), config.steps, config.dt, workbench.device)
    result.metrics["flow_seconds"] = Metric(timed[integrator].median_s, "s, all layers")
    result.metrics[f"flow_seconds_of_{_PLAIN}"] = Metric(timed[_PLAIN].median_s, "s, all layers")
    result.details["flow_seconds_samples"] = {name: found.seconds for name, found in timed.items()}
