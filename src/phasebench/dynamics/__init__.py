"""The Hamiltonian flow of H(q, p) = |p|^2 / 2 + V(q): energy, integrators, gradients."""

from phasebench.dynamics.flow import GRADIENTS, ROUND_TRIPS, HamiltonianFlow
from phasebench.dynamics.gpu.adjoint_exact import as_on_gpu, refused, release
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
from phasebench.dynamics.lattice import Lattice, LatticeCorrupted, LatticeOverflow, settle

__all__ = [
    "CONTRAST",
    "GRADIENTS",
    "INTEGRATORS",
    "POTENTIALS",
    "ROUND_TRIPS",
    "HamiltonianFlow",
    "Lattice",
    "LatticeCorrupted",
    "LatticeOverflow",
    "Potential",
    "Shear",
    "as_on_gpu",
    "duration",
    "force_evaluations",
    "integrate",
    "refused",
    "release",
    "schedule",
    "settle",
]
