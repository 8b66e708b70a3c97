"""The energy along a flow, step by step; of a long trajectory only a few numbers a step are kept.

With E_ref = mean_i(T_i(0) + |V_i(0)|) of a layer, over its tokens i:

    drift_i(t) = |H_i(t) - H_i(0)| / E_ref
    exchange_i = max_t |T_i(t) - T_i(0)| / E_ref    the energy that moves between T and V

Energies are float64; states and forces are in the precision of the states given.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from phasebench.dynamics import HamiltonianFlow
from phasebench.results.progress import track

Start = tuple[HamiltonianFlow, Tensor, Tensor]
_BYTES = 2**27  # of W q + b in float64, of as many steps as are taken at once


@runtime_checkable
class Reader(Protocol):
    """A language model."""

    def modules(self) -> Any: ...

    def states(self, tokens: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Trace:
    """Hold one layer's flow of n steps over its tokens, in float64 on the CPU.

    Index 0 is the start where there are n + 1.
    """

    reference: float  # E_ref
    mean_energy: float  # of H over tokens and steps
    mean: Tensor  # (n + 1) (mean_i H_i(t) - mean_i H_i(0)) / E_ref
    max_drift: Tensor  # (n) max_i drift_i(t)
    mean_drift: Tensor  # (n) mean_i drift_i(t)
    exchange: Tensor  # (tokens)
    max_q: Tensor  # (n + 1) max_i |q_i(t)|, Euclidean
    max_p: Tensor  # (n + 1)
    # max_i |q_i(0) + t c p_i(0)| at the end: what motion without a force would have reached
    free_q: float

    @property
    def worst(self) -> float:
        """Return the largest drift over tokens and steps."""
        return self.max_drift.max().item()

    @property
    def bad_step(self) -> int | None:
        """Return the first step, from 1, whose energies are not finite; None if all are."""
        bad = ~(self.max_drift.isfinite() & self.mean[1:].isfinite())
        return int(bad.nonzero()[0]) + 1 if bad.any() else None


def flow_starts(model: Reader, tokens: Tensor) -> list[Start]:
    """Return each layer's flow with the q and p (B, T, D) that it starts from on those tokens."""
    starts: list[Start] = []

    def remember(ode: Any, state: tuple[Tensor, Tensor]) -> None:
        starts.append((ode, *state))

    flows: list[nn.Module] = [m for m in model.modules() if isinstance(m, HamiltonianFlow)]
    hooks = [flow.register_forward_pre_hook(remember) for flow in flows]
    try:
        model.states(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return starts


def energies(
    ode: HamiltonianFlow, q: Tensor, p: Tensor, *, steps: int, dt: float, **options: Any
) -> Trace:
    """Take the energies along `HamiltonianFlow.trajectory` from (q, p), whose options these are."""
    H = ode.hamiltonian(torch.float64).cast()
    states = ode.trajectory(q, p, steps=steps, dt=dt, **options)
    # one by one, they would take longer on a GPU than the flow itself
    terms = max([q.shape[-1], *(len(w) for w in H.potential.weights if w.ndim)])
    at_once = max(1, _BYTES // (8 * q[..., 0].numel() * terms))
    start_E = start_T = exchange = torch.empty(0)
    rows: list[Tensor] = []
    states = track(states, "steps of a flow", steps + 1)
    while part := list(itertools.islice(states, at_once)):
        q2, p2 = (torch.stack(coordinate).double() for coordinate in zip(*part, strict=True))
        T = H.kinetic(p2).flatten(1)
        E = T + H.value(q2).flatten(1)
        if not rows:
            start_E, start_T, exchange = E[0], T[0], torch.zeros_like(T[0])
        change = (E - start_E).abs()
        exchange = torch.maximum(exchange, (T - start_T).abs().amax(0))
        sizes = (x.square().sum(-1).flatten(1).amax(1).sqrt() for x in (q2, p2))
        rows.append(torch.stack((E.mean(1), change.amax(1), change.mean(1), *sizes)))
    reference = (start_T + (start_E - start_T).abs()).mean().item()
    mean, largest, average, *norms = torch.cat(rows, 1).cpu()
    free_q = (q.double() + steps * dt * H.velocity(p.double())).square().sum(-1).amax().sqrt()
    return Trace(
        reference=reference,
        mean_energy=mean.mean().item(),
        mean=(mean - mean[0]) / reference,
        max_drift=largest[1:] / reference,
        mean_drift=average[1:] / reference,
        exchange=exchange.cpu() / reference,
        max_q=norms[0],
        max_p=norms[1],
        free_q=free_q.item(),
    )
