"""Stage 2: channels are mixed by a Hamiltonian flow of the phase-space point q = Re z, p = Im z."""

from __future__ import annotations

import pkgutil

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phasebench.config import ConfigError, ModelConfig
from phasebench.dynamics import HamiltonianFlow, PerceptronPotential, Potential
from phasebench.models.block import Block
from phasebench.models.layers import ComplexLinear


def build_flow(config: ModelConfig) -> HamiltonianFlow:
    """The flow of one block, with fresh weights from torch's global generator.

    Raises `ConfigError` for a potential of one's own that cannot be made.
    """
    ode = config.ode
    return HamiltonianFlow(
        _potential(config),
        dim=config.flow_dim,
        steps=ode.steps,
        dt=ode.dt,
        integrator=ode.integrator,
        gradient=ode.gradient,
        on_overflow=ode.on_overflow,
    )


def _potential(config: ModelConfig) -> Potential:
    ode = config.ode
    if not isinstance(ode.potential, dict):
        eps = ode.eps if ode.normalize else None
        sizes = config.flow_dim, config.hidden
        return PerceptronPotential.random(
            *sizes, sigma=ode.potential, coupling=ode.coupling, eps=eps
        )
    options = dict(ode.potential)
    target = options.pop("_target_")
    try:
        return pkgutil.resolve_name(target)(config.flow_dim, **options)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        fix = (
            f"module.Class, installed or on PYTHONPATH, that can be called as "
            f"Class(dim{''.join(f', {name}=...' for name in options)})"
        )
        raise ConfigError("model.ode.potential._target_", target, str(error), fix) from error


class Stage2Block(Block):
    """z += attention(norm(z)); z += mixer(norm(z)), on states (B, T, 2 D).

    The mixer is the displacement of the flow (q, p) -> (q', p') of duration t, of which each
    channel takes learned factors: c1 (D) of free motion, which is a shear of the state, and c2
    (2 D) of what the force adds to it:

        mixer = (c1 Im n, 0) + leave(c2 (q' - q - t c p, p' - p)),    n = norm(z), (q, p) = enter(n)

    enter and leave are learned complex-linear maps, or the identity for `coordinates: state`.
    Dropout is of the second term only: the first copies Im of a state to its Re, so that its masks
    were noise as large as the state.  c1 starts as `free_motion`, c2 as `START`.
    """

    OPAQUE = ("ode",)
    START = 0.5

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.ode = build_flow(config)
        self.c1 = nn.Parameter(torch.full((config.dim,), config.free_motion))
        self.c2 = nn.Parameter(torch.full((2 * config.dim,), self.START))
        self.learned = config.coordinates == "learned"
        self.enter = ComplexLinear(config.dim, config.dim) if self.learned else nn.Identity()
        self.leave = ComplexLinear(config.dim, config.dim) if self.learned else nn.Identity()

    def mix(self, z: Float[Tensor, "B T dim2"]) -> tuple[Tensor, ...]:
        """Return q', p', and learned q, p, which a second product might round otherwise."""
        start = self.enter(self.norm2(z)).to(z.dtype).chunk(2, -1)
        end = self.ode(*start)
        return (*end, *start) if self.learned else end

    def merge(self, z: Float[Tensor, "B T dim2"], *mixed: Tensor) -> Float[Tensor, "B T dim2"]:
        """Return z + mixer."""
        q1, p1, *start = mixed
        # norm(z) once more: two passes over a state are cheaper than to keep it
        n = self.norm2(z).chunk(2, -1)
        q, p = start or n
        free = self.ode.time * self.ode.c * p
        forced = self.leave(self.c2 * torch.cat((q1 - q - free, p1 - p), -1))
        return z + torch.cat((self.c1 * n[1], torch.zeros_like(p)), -1) + self.drop(forced)
