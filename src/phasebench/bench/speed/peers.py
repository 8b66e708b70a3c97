"""Other libraries' ways through the same ODE; an optional extra.

torchdiffeq's midpoint rule takes as many steps as the flow, and two force evaluations each: as many
as leapfrog takes
where it does not merge the kicks of neighbouring steps.  `..._half` takes half as many steps, twice
as large: as many force evaluations as leapfrog with merged kicks, but one, at an error about four
times as large.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from phasebench.dynamics import HamiltonianFlow

Solver = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
HALF = "_half"
PEERS = ("torchdiffeq_odeint", "torchdiffeq_odeint_adjoint", "torchdiffeq_odeint_adjoint" + HALF)


def missing() -> str | None:
    """Why the peers cannot be measured, or None."""
    try:
        importlib.import_module("torchdiffeq")
    except ImportError as error:
        return f"{error} (pip install 'phasebench[peers]')"
    return None


class _Field(nn.Module):
    """dq/dt = c p, dp/dt = F(q), as torchdiffeq wants it."""

    def __init__(self, flow: HamiltonianFlow, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.flow, self.dtype = flow, dtype

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        q, p = state
        H = self.flow.hamiltonian(self.dtype).cast()
        return H.velocity(p), H.force(q)


def peer(name: str, flow: HamiltonianFlow, dtype: torch.dtype | None) -> Solver:
    """The flow by torchdiffeq's midpoint rule."""
    solve = getattr(
        importlib.import_module("torchdiffeq"), name.removeprefix("torchdiffeq_").removesuffix(HALF)
    )
    field, steps = (
        _Field(flow, dtype),
        max(1, flow.steps // 2) if name.endswith(HALF) else flow.steps,
    )

    def run(q: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        times = torch.tensor([0.0, flow.time], device=q.device)
        q1, p1 = solve(
            field, (q, p), times, method="midpoint", options={"step_size": flow.time / steps}
        )
        return q1[-1], p1[-1]

    return run
