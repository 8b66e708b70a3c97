"""The command: Hydra, one job, sweeps, errors. Called as a function, a run from Python."""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    """A package that can be called: its import takes the name `phasebench.run` for itself."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        from phasebench.run.notebook import run

        return run(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
