"""The Hamiltonian flow of H(q, p) = sum c p^2 / 2 + V(q): energy, integrators, gradients."""

from phasebench.dynamics.adjoint import Problem
from phasebench.dynamics.flow import STAND_INS, HamiltonianFlow, exact_adjoint
from phasebench.dynamics.gpu.adjoint_exact import refused
from phasebench.dynamics.gpu.launch import as_on_gpu, release
from phasebench.dynamics.gradients import GRADIENTS, ROUND_TRIPS
from phasebench.dynamics.hamiltonian import AutogradPotential, Hamiltonian, Potential, probe
from phasebench.dynamics.integrators import (
    CONTRAST,
    INTEGRATORS,
    Schedule,
    Shear,
    force_evaluations,
    integrate,
)
from phasebench.dynamics.lattice import Lattice, LatticeCorrupted, LatticeOverflow
from phasebench.dynamics.perceptron import POTENTIALS, PerceptronPotential

__all__ = [
    "CONTRAST",
    "GRADIENTS",
    "INTEGRATORS",
    "POTENTIALS",
    "ROUND_TRIPS",
    "STAND_INS",
    "AutogradPotential",
    "Hamiltonian",
    "HamiltonianFlow",
    "Lattice",
    "LatticeCorrupted",
    "LatticeOverflow",
    "PerceptronPotential",
    "Potential",
    "Problem",
    "Schedule",
    "Shear",
    "as_on_gpu",
    "exact_adjoint",
    "force_evaluations",
    "integrate",
    "probe",
    "refused",
    "release",
]
