"""phasebench's sweeper as Hydra's plugin; Hydra looks for plugins here, and accepts none from elsewhere."""

from __future__ import annotations

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from phasebench.run.sweep.grid import GridSweep


class ResumingSweeper(Sweeper):
    """hydra/sweeper=resuming; see `phasebench.run.sweep.grid.GridSweep`."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None) -> None:
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        self.grid = GridSweep(
            config, hydra_context.config_loader, launcher, self.params, self.max_batch_size
        )

    def sweep(self, arguments: list[str]) -> None:
        self.grid.run(arguments)
