"""Does a linear operator stand in for the flow? `bench.koopman.operator` says how it is measured.

Of every layer the best observables are judged by their iterated error, in its favour; reported is
the worst layer over all seeds. The operator's own products count as nothing beside the force
evaluations of leapfrog, in its favour too. A one-step error is no evidence: it is small wherever
the step is.
"""

from __future__ import annotations

import math
from dataclasses import asdict

import torch

from phasebench.bench.evidence import moved, trained, weight_change
from phasebench.bench.koopman.operator import Operator, operators
from phasebench.bench.workbench import Workbench, require_ode, starts_of_text
from phasebench.config import ConfigError, KoopmanBenchConfig
from phasebench.results.gate import BenchResult, Gate, Metric, Need, table
from phasebench.results.progress import track
from phasebench.training.scoring import NotFinite, autocast

EVIDENCE = 4  # fitted states a coefficient of the operator, at least
_UNIT = "of what the force does, worst layer"
_COLUMNS = (
    "layer",
    "kinds",
    "observables",
    "one_step",
    "iterated",
    "direct",
    "leapfrog",
    "radius",
    "above_1",
)


def check(workbench: Workbench, config: KoopmanBenchConfig) -> None:
    """Raise `ConfigError` for a model without a flow, and for a step that does not divide it."""
    require_ode(workbench, config)
    ode = workbench.config.model.ode
    time = ode.steps * ode.dt
    steps = round(time / config.dt)
    if steps < 2 or not math.isclose(steps * config.dt, time, rel_tol=1e-6):
        problem = f"does not divide the flow's time, {time:g}, into two steps or more"
        raise ConfigError("bench.koopman.dt", config.dt, problem, f"bench.koopman.dt={time / 10:g}")
    there = len(workbench.corpus.splits[config.split].tokens)
    if there < config.seq:
        problem = f"the {config.split} split has {there:,} tokens"
        raise ConfigError("bench.koopman.seq", config.seq, problem, "a lower bench.koopman.seq")


def run(workbench: Workbench, config: KoopmanBenchConfig) -> BenchResult:
    """Fit operators to the flow of every layer, and judge them over its time.

    Raises `NotFinite` where a trajectory leaves the finite numbers, and what `check` raises.
    """
    check(workbench, config)
    model_config, rows, motions, changes = workbench.config.model, [], [], []
    notices: list[str] = []
    for seed in config.seeds or [workbench.config.seed]:
        weights = workbench.trained(model_config, "model", seed)
        sizes = {"states": config.states, "batch": config.batch, "seq": config.seq}
        with torch.no_grad(), autocast(workbench.device, "fp32"):
            starts = starts_of_text(workbench, weights.model, config.split, **sizes)
        vocab_size = workbench.corpus.vocab_size
        changes.append(weight_change(weights.model, model_config, vocab_size, seed))
        notices += weights.notices
        for layer, (flow, q, p) in enumerate(track(starts, "operators of layers", len(starts))):
            motions.append(flow.time * (p.norm() / q.norm()).item())
            fitted = operators(flow, q, p, config.observables, config.dt)
            if not all(math.isfinite(operator.direct) for operator in fitted):
                raise NotFinite(f"the flow of layer {layer}, seed {seed}, is not finite")
            rows.append((seed, layer, fitted))
    if ridges := sum(operator.ridge > 0 for *_, fitted in rows for operator in fitted):
        notices.append(f"{ridges} operators have a ridge: their observables depend on each other")
    shown = [{"seed": seed, "layer": i} | asdict(op) for seed, i, fitted in rows for op in fitted]
    best = [min(fitted, key=lambda operator: operator.iterated) for *_, fitted in rows]
    needs = [
        moved(min(motions)),
        trained(min(changes)),
        Need("states a coefficient", min(op.states_per_coefficient for op in best), EVIDENCE),
    ]
    metrics = _metrics(best)
    gates = [
        Gate.check(name, metrics[name], "<", config.target, needs)
        for name in ("koopman_iterated_error", "koopman_leapfrog_ratio")
    ]
    return BenchResult(metrics, gates, {"rows": shown, "table": table(shown, _COLUMNS)}, notices)


def _metrics(best: list[Operator]) -> dict[str, Metric]:
    """Report the layer of the largest iterated error, and the largest ratio to leapfrog's."""
    worst = max(best, key=lambda operator: operator.iterated)
    ratio = max(op.iterated / op.leapfrog if op.leapfrog else math.inf for op in best)
    evaluations = f"{_UNIT}, {worst.force_evaluations} force evaluations"
    return {
        "koopman_iterated_error": Metric(worst.iterated, _UNIT),
        "koopman_iterated_error_leapfrog": Metric(worst.leapfrog, evaluations),
        "koopman_leapfrog_ratio": Metric(ratio, "iterated error / leapfrog's, worst layer"),
        "koopman_one_step_error": Metric(worst.one_step, _UNIT),
        "koopman_direct_error": Metric(worst.direct, _UNIT),
        "koopman_spectral_radius": Metric(max(op.radius for op in best), "largest |eigenvalue|"),
        "koopman_eigenvalues_above_1": Metric(max(op.above_1 for op in best), "of one layer"),
        "koopman_observables": Metric(worst.observables, "functions of (q, p)", "counted"),
    }
