"""Stage 2: channels are mixed by a Hamiltonian flow of the phase-space point q = Re z, p = Im z."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phasebench.config import ModelConfig
from phasebench.dynamics import HamiltonianFlow
from phasebench.models.block import Block
from phasebench.models.layers import ComplexLinear


def build_flow(config: ModelConfig) -> HamiltonianFlow:
    """The flow of one block, with fresh weights from torch's global generator."""
    ode = config.ode
    return HamiltonianFlow(
        config.dim,
        config.hidden,
        steps=ode.steps,
        dt=ode.dt,
        integrator=ode.integrator,
        gradient=ode.gradient,
        potential=ode.potential,
        omega=ode.omega,
        coupling=ode.coupling,
        on_overflow=ode.on_overflow,
    )


class Stage2Block(Block):
    """z += attention(norm(z)); z += mixer(norm(z)), on states (B, T, 2 D), with the mixer that follows.

    From (q, p) the flow of duration t goes to (q', p').  What free motion would have done is set apart, and what the
    force did is measured in units of its coupling:

        mixer = (c1 t Im n, 0) + leave(c2 (q' - q - t p, p' - p) GAIN / coupling),    n = norm(z), (q, p) = enter(n)

    with c1 (D), which starts as `free_motion`, and c2 (2 D), both learned; enter and leave are learned complex-linear
    maps, or for `coordinates: state` the identity, where Im n is p.  Where omega > 0, the oscillation that it alone
    would have made is set apart in place of free motion's (q + t p, p).

    Dropout is of the second term only: the first copies Im of a state to its Re, so that its masks were noise as large
    as the state (docs/recipes.md).  A weak coupling costs no expressive power, and the slow dynamics that it makes are
    what an integrator follows accurately: the energy error of leapfrog is proportional to it, the perplexity is not
    (README, "Results").
    """

    OPAQUE = ("ode",)
    NOT_DECAYED = (
        "ode.W",
    )  # its size is the scale over which V bends: decay would flatten V (docs/recipes.md)
    GAIN = 0.2  # root mean square of the mixer's kick at initialisation, beside states of mean square modulus one

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.ode = build_flow(config)
        self.gain = self.GAIN / config.ode.coupling
        self.oscillation = self.ode.free_map() if self.ode.omega else None
        self.c1 = nn.Parameter(torch.full((config.dim,), config.free_motion))
        self.c2 = nn.Parameter(torch.ones(2 * config.dim))
        self.learned = config.coordinates == "learned"
        self.enter = ComplexLinear(config.dim, config.dim) if self.learned else nn.Identity()
        self.leave = ComplexLinear(config.dim, config.dim) if self.learned else nn.Identity()

    def mix(self, z: Float[Tensor, "B T dim2"]) -> tuple[Tensor, ...]:
        """q' and p'; of learned coordinates also q and p, which a product computed once more might round otherwise."""
        start = self.enter(self.norm2(z)).to(z.dtype).chunk(2, -1)
        end = self.ode(*start)
        return (*end, *start) if self.learned else end

    def merge(self, z: Float[Tensor, "B T dim2"], *mixed: Tensor) -> Float[Tensor, "B T dim2"]:
        """z + mixer."""
        q1, p1, *start = mixed
        n = self.norm2(z).chunk(
            2, -1
        )  # once more: two passes over a state are cheaper than to keep it
        q, p = start or n
        forced = self.gain * self.c2 * torch.cat(self._moved(q, p, q1, p1), -1)
        free = torch.cat((self.c1 * (self.ode.time * n[1]), torch.zeros_like(p)), -1)
        return z + free + self.drop(self.leave(forced))

    def _moved(self, q: Tensor, p: Tensor, q1: Tensor, p1: Tensor) -> tuple[Tensor, Tensor]:
        """How far the potential's terms took (q, p), as temporaries: a name for them would hold them longer."""
        if self.oscillation is None:
            return q1 - q - self.ode.time * p, p1 - p
        M0, M1, M2, M3 = self.oscillation
        return q1 - M0 * q - M1 * p, p1 - M2 * q - M3 * p
