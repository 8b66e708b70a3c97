"""phasebench: train and measure language models whose layers integrate a Hamiltonian ODE.

What is listed in `__all__` is public; docs/library.md shows it. Importing this package imports
neither torch nor Hydra: a name is looked up when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_DYNAMICS = (
    "GRADIENTS",
    "INTEGRATORS",
    "AutogradPotential",
    "HamiltonianFlow",
    "LatticeCorrupted",
    "LatticeOverflow",
    "PerceptronPotential",
    "Potential",
    "exact_adjoint",
)
_HOMES = dict.fromkeys(_DYNAMICS, "dynamics") | {
    "ConfigError": "config",
    "Loaded": "training.loading",
    "load": "training.loading",
}
__all__ = [*_HOMES, "report", "run"]  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name in ("report", "run"):
        return import_module(f"phasebench.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'phasebench' has no attribute {name!r}")
    return getattr(import_module(f"phasebench.{_HOMES[name]}"), name)
