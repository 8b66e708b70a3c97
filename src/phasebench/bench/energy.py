"""Conservation of energy along the flow of every layer, on trained weights and the hidden states of real text.

With E_ref = mean_i(T_i(0) + |V_i(0)|) of a layer, over its tokens i:

    drift_i(t) = |H_i(t) - H_i(0)| / E_ref          max_drift, mean_drift: over layers, tokens and steps
    exchange_i = max_t |T_i(t) - T_i(0)| / E_ref    the energy that moves between T and V

An accurate flow's drift is small beside its exchange; in a flow that stands still both are.  The mean energy of a
batch drifts far less than its tokens do, and is reported beside them.  States and forces are float32, energies float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phasebench import evaluation
from phasebench.config import ConfigError, EnergyConfig
from phasebench.dynamics import HamiltonianFlow, force_evaluations
from phasebench.measure.trend import Trend, trend
from phasebench.models import LanguageModel
from phasebench.results import BenchResult, Gate, Metric
from phasebench.workbench import Trained, Workbench, require_ode

Start = tuple[HamiltonianFlow, Tensor, Tensor]


@dataclass(frozen=True)
class Series:
    """Energies of one layer along its flow: H and T of shape (steps + 1, tokens), float64, and E_ref."""

    H: Tensor
    T: Tensor
    reference: float

    @property
    def drift(self) -> Tensor:
        """|H_i(t) - H_i(0)| / E_ref, shape (steps, tokens)."""
        return (self.H[1:] - self.H[0]).abs() / self.reference

    @property
    def mean(self) -> Tensor:
        """(mean_i H_i(t) - mean_i H_i(0)) / E_ref, shape (steps + 1,)."""
        return (self.H.mean(1) - self.H[0].mean()) / self.reference

    @property
    def exchange(self) -> Tensor:
        """max_t |T_i(t) - T_i(0)| / E_ref, shape (tokens,)."""
        return (self.T - self.T[0]).abs().amax(0) / self.reference


def check(workbench: Workbench, config: EnergyConfig) -> None:
    """Raise `ConfigError` for a model without a Hamiltonian flow or a split with too little text."""
    require_ode(workbench.config)
    needed, found = config.batch * config.seq, len(workbench.corpus.splits[config.split].tokens)
    if found < needed:
        problem = f"batch x seq is {needed:,} tokens, but the {config.split} split has {found:,}"
        raise ConfigError("bench.energy.seq", config.seq, problem, "lower bench.energy.batch or bench.energy.seq")


def run(workbench: Workbench, config: EnergyConfig) -> BenchResult:
    """Integrate every layer's flow from the states of the split's first tokens and judge drift and trend.

    Raises `evaluation.NotFinite` if a trajectory leaves the finite numbers, and what `check` raises.
    """
    check(workbench, config)
    trained = workbench.trained(workbench.config.model, "model")
    tokens = workbench.corpus.splits[config.split].tokens[: config.batch * config.seq].view(config.batch, config.seq)
    with torch.no_grad(), evaluation.autocast(workbench.device, "fp32"):
        starts = flow_starts(trained.model, tokens.to(workbench.device))
        layers = [energies(*start, config) for start in starts]
    for i, layer in enumerate(layers):
        if not layer.H.isfinite().all():
            step = int((~layer.H.isfinite()).any(1).nonzero()[0])
            raise evaluation.NotFinite(f"the energy of layer {i} is not finite from step {step} on")
    return _result(config, layers, config.integrator or starts[0][0].integrator, trained)


def flow_starts(model: LanguageModel, tokens: Tensor) -> list[Start]:
    """Each layer's flow with the q and p, of shape (B, T, D), that it starts from on those tokens."""
    starts: list[Start] = []

    def remember(ode: Any, state: tuple[Tensor, Tensor]) -> None:
        starts.append((ode, *state))

    hooks = [m.register_forward_pre_hook(remember) for m in model.modules() if isinstance(m, HamiltonianFlow)]
    try:
        model.states(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return starts


def energies(ode: HamiltonianFlow, q: Tensor, p: Tensor, config: EnergyConfig) -> Series:
    """The energies along the flow from (q, p), one column a token."""
    integrator = config.integrator or ode.integrator
    H, T = [], []
    for q_t, p_t in ode.trajectory(q, p, steps=config.steps, dt=config.dt, integrator=integrator):
        T.append(p_t.double().square().sum(-1).flatten() / 2)
        H.append(ode.h_func(q_t.double(), p_t.double()).flatten())
    kinetic, total = torch.stack(T), torch.stack(H)
    reference = (kinetic[0] + (total[0] - kinetic[0]).abs()).mean().item()
    return Series(total, kinetic, reference)


def _result(config: EnergyConfig, layers: list[Series], integrator: str, trained: Trained) -> BenchResult:
    max_drift = max(layer.drift.max().item() for layer in layers)
    trends = [trend(layer.mean.tolist()) for layer in layers]
    rising = sum(t.monotonic for t in trends)
    mean_energy = sum(layer.H.mean().item() for layer in layers) / len(layers)
    mean_drift = sum(layer.drift.mean().item() for layer in layers) / len(layers)
    exchange = sum(layer.exchange.mean().item() for layer in layers) / len(layers)
    still = None if exchange else "no energy was exchanged: the flow stands still"
    metrics = {
        "mean_energy": Metric(mean_energy, "energy per token"),
        "max_drift": Metric(max_drift, "E_ref"),
        "mean_drift": Metric(mean_drift, "E_ref"),
        "max_drift_of_batch_mean": Metric(max(layer.mean.abs().max().item() for layer in layers), "E_ref"),
        "mean_exchange": Metric(exchange, "E_ref"),
        "max_drift_over_exchange": Metric(max_drift / exchange if exchange else None, "1", reason=still),
        "monotonic_violation": Metric(rising > 0, "true or false"),
        "monotone_layers": Metric(rising, "layers that rise or fall"),
        "force_evaluations": Metric(force_evaluations(integrator, config.steps), "a layer", kind="counted"),
    }
    gates = [
        Gate("max_drift", max_drift < config.target, max_drift, f"< {config.target:g}"),
        Gate("monotone_layers", rising == 0, rising, f"0 of {len(layers)}"),
    ]
    top = {
        "mean_energy": mean_energy, "max_drift": max_drift, "mean_drift": mean_drift, "monotonic_violation": rising > 0,
    }  # fmt: skip
    rows = [_row(layer, t) for layer, t in zip(layers, trends, strict=True)]
    details = {"integrator": integrator, "layers": rows, "weights": trained.origin}
    return BenchResult(metrics=metrics, gates=gates, details=details, top=top, notices=list(trained.notices))


def _row(layer: Series, fitted: Trend) -> dict[str, Any]:
    return {
        "reference_energy": layer.reference,
        "mean_energy": layer.H.mean().item(),
        "max_drift": layer.drift.max().item(),
        "mean_drift": layer.drift.mean().item(),
        "mean_exchange": layer.exchange.mean().item(),
        "rank_correlation": fitted.rank_correlation,
        "change": fitted.change,
        "late_change": fitted.late_change,
        "monotonic": fitted.monotonic,
        "drift_of_batch_mean": layer.mean.tolist(),
        "max_drift_at_step": layer.drift.amax(1).tolist(),
    }
