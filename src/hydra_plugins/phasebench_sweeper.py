"""phasebench's sweeper as Hydra's plugin: Hydra looks for plugins in this package only."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from phasebench.run.sweep.grid import GridSweep


class ResumingSweeper(Sweeper):
    """hydra/sweeper=resuming; see `phasebench.run.sweep.grid.GridSweep`."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        self.grid = GridSweep(config, hydra_context.config_loader, launcher, **self.options)

    def sweep(self, arguments: list[str]) -> None:
        self.grid.run(arguments)
