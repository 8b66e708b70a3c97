"""The Hamiltonian flow of H(q, p) = |p|^2 / 2 + V(q): energy, integrators, gradients."""

from phasebench.dynamics.flow import HamiltonianFlow
from phasebench.dynamics.gradients import GRADIENTS
from phasebench.dynamics.hamiltonian import POTENTIALS, Potential
from phasebench.dynamics.integrators import INTEGRATORS, Shear, force_evaluations, integrate, schedule

__all__ = [
    "GRADIENTS",
    "INTEGRATORS",
    "POTENTIALS",
    "HamiltonianFlow",
    "Potential",
    "Shear",
    "force_evaluations",
    "integrate",
    "schedule",
]
