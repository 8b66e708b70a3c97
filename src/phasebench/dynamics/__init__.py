"""The Hamiltonian flow of H(q, p) = |p|^2 / 2 + V(q): energy, integrators, gradients."""

from phasebench.dynamics.exact import advance, retreat
from phasebench.dynamics.flow import GRADIENTS, HamiltonianFlow
from phasebench.dynamics.hamiltonian import POTENTIALS, Potential
from phasebench.dynamics.integrators import (
    CONTRAST,
    INTEGRATORS,
    Shear,
    duration,
    force_evaluations,
    integrate,
    schedule,
)
from phasebench.dynamics.lattice import Lattice, LatticeCorrupted, LatticeOverflow

__all__ = [
    "CONTRAST",
    "GRADIENTS",
    "INTEGRATORS",
    "POTENTIALS",
    "HamiltonianFlow",
    "Lattice",
    "LatticeCorrupted",
    "LatticeOverflow",
    "Potential",
    "Shear",
    "advance",
    "duration",
    "force_evaluations",
    "integrate",
    "retreat",
    "schedule",
]
