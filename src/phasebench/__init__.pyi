from collections.abc import Sequence
from typing import Any

from phasebench import report as report
from phasebench.config import ConfigError as ConfigError
from phasebench.dynamics import GRADIENTS as GRADIENTS
from phasebench.dynamics import INTEGRATORS as INTEGRATORS
from phasebench.dynamics import AutogradPotential as AutogradPotential
from phasebench.dynamics import HamiltonianFlow as HamiltonianFlow
from phasebench.dynamics import LatticeCorrupted as LatticeCorrupted
from phasebench.dynamics import LatticeOverflow as LatticeOverflow
from phasebench.dynamics import PerceptronPotential as PerceptronPotential
from phasebench.dynamics import Potential as Potential
from phasebench.dynamics import exact_adjoint as exact_adjoint
from phasebench.training.loading import Loaded as Loaded
from phasebench.training.loading import load as load

__version__: str

def run(overrides: Sequence[str] = ()) -> dict[str, Any]: ...
