"""Sweeps that resume: Hydra's grid, with a record of every point and an exit code."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from phasebench import report
from phasebench.config import Config, ConfigError, RunOptions
from phasebench.results.lock import locked
from phasebench.run import hydra_app as run
from phasebench.run import tuned
from phasebench.run.errors import refuse
from phasebench.run.overrides import quote
from phasebench.run.sweep import neighbours, worker
from phasebench.run.sweep.ledger import Ledger, title
from phasebench.run.sweep.point import Point, distinct
from phasebench.run.sweep.state import why_run

MOST = 10_000  # points of a sweep
LISTED = 200  # points that a dry run looks at


class GridSweep:
    """Runs the points of a grid that are not finished yet, through any of Hydra's launchers.

    `config` is the composed configuration of the whole sweep, `loader` composes its points'. The
    others are the keys of hydra.sweeper (`phasebench.run.hydra_app.SWEEPER`).
    """

    def __init__(
        self,
        config: DictConfig,
        loader: ConfigLoader,
        launcher: Launcher,
        *,
        max_batch_size: int | None = None,
        params: Mapping[str, str] | None = None,
        runs: Sequence[str] | None = None,
        best: str | None = None,
    ) -> None:
        self.config, self.loader, self.launcher = config, loader, launcher
        self.max_batch_size, self.params = max_batch_size, dict(params or {})
        self.runs, self.best = list(runs or [""]), best
        self.folder = Path(config.hydra.sweep.dir)
        self.how = RunOptions(**{f.name: config[f.name] for f in dataclasses.fields(RunOptions)})

    def run(self, arguments: Sequence[str]) -> None:
        """Run what is due; the exit code is that of the worst point. Raises `ConfigError`."""
        if self.config.output is not None:
            raise ConfigError(
                "output",
                self.config.output,
                "every point of a sweep would write there",
                "leave it out: each point has its results.json in its own folder",
            )
        points = self._points(arguments)
        if self.how.dry_run:
            self._show(Ledger(self.folder, points))
            return
        refusal = ConfigError(
            "sweep_name",
            self.how.sweep_name or "null",
            f"another sweep runs in {self.folder}",
            "wait for its end, or choose another sweep_name",
        )
        with locked(self.folder / ".sweep.lock", refusal), _interrupted_by_sigterm():
            ledger = Ledger(self.folder, points)
            due = self._begin(ledger)
            alone = str(self.config.hydra.launcher["_target_"]).endswith(".BasicLauncher")
            size = 1 if alone else self.max_batch_size or max(len(due), 1)
            try:
                for first in range(0, len(due), size):
                    self._launch(due[first : first + size], first, ledger)
            finally:  # also after Ctrl-C
                worker.release()
                print(*ledger.lines(), sep="\n")
                run.ended(ledger.exit_code)
                print(f"sweep: {ledger.write()}", flush=True)
            print(_report(self.folder, points), flush=True)
            if self.best:
                print(tuned.write(self.folder, points, self.best), flush=True)

    def _points(self, arguments: Sequence[str]) -> list[Point]:
        """Compose each point of all runs; of a dry run, the first `LISTED`.

        Hydra's errors in any of them end the sweep before it begins. Raises `ConfigError` for more
        than `MOST` points.
        """
        parser, grids = OverridesParser.create(config_loader=self.loader), []
        for run_words in map(shlex.split, self.runs):
            words = [*(f"{key}={value}" for key, value in self.params.items()), *run_words]
            axes = {
                override.get_key_element(): _values(override)
                for override in parser.parse_overrides([*words, *arguments])
            }
            own = {word.partition("=")[0] for word in run_words}
            swept = [len(values) > 1 or key in own for key, values in axes.items()]
            grids.append((axes.values(), swept))
        self.size = sum(math.prod(map(len, axes)) for axes, _ in grids)
        if self.size > MOST and not self.how.dry_run:
            problem = f"this grid has {self.size:,} points or more; a sweep has at most {MOST:,}"
            raise ConfigError("", "", problem, "sweep over fewer values")
        choices = ((c, swept) for axes, swept in grids for c in itertools.product(*axes))
        points = []
        for choice, swept in itertools.islice(choices, LISTED if self.how.dry_run else None):
            composed = self.loader.load_sweep_config(self.config, list(choice))
            with open_dict(composed):
                del composed["hydra"]
            chosen = tuple(itertools.compress(choice, swept))
            points.append(Point(run.chosen(composed, choice), choice, chosen))
        kept = distinct(points, self.folder)
        if repeated := len(points) - len(kept):
            print(f"sweep: {repeated} points have the configuration of another, and are left out")
        return kept

    def _due(self, ledger: Ledger) -> dict[str, str]:
        """Return the names of the points to run, and why."""
        valid = (point.name for point in ledger.points if isinstance(point.config, Config))
        whys = {name: why_run(ledger.states[name], self.how) for name in valid}
        return {name: why for name, why in whys.items() if why}

    def _show(self, ledger: Ledger) -> None:
        due = self._due(ledger)
        print(f"sweep: {self.folder}: {len(due)} of {len(ledger.points)} points would run")
        for point in ledger.points:
            state = ledger.states[point.name]
            what = f"left as it is: {state.status}"
            if isinstance(point.config, ConfigError):
                what = f"cannot run: {state.reason}"
            elif point.name in due:
                what = f"would run: {due[point.name]}"
            print(f"  {title(point)}: {what}")
        if self.size > LISTED:
            more = "or more " if self.size > MOST else ""
            print(f"  ... the first {LISTED} of {self.size:,} {more}points were looked at")
        run.ended(2 if any(isinstance(point.config, ConfigError) for point in ledger.points) else 0)

    def _begin(self, ledger: Ledger) -> list[Point]:
        """Return the points to run; write sweep.json.

        Raises `ConfigError` where points at one time would disturb what they measure.
        """
        whys = self._due(ledger)
        due = [point for point in ledger.points if point.name in whys]
        beside = neighbours.side_by_side(self.config.hydra.launcher, len(due))
        neighbours.check(due, beside)
        ledger.write()
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        counts = "; ".join(f"{n}: {why}" for why, n in collections.Counter(whys.values()).items())
        print(
            f"sweep: {self.folder}: {len(due)} of {len(ledger.points)} points to run",
            counts and f"({counts})",
        )
        return [
            dataclasses.replace(
                point,
                label=f"point {i} of {len(due)}: {title(point)}",
                side_by_side=beside,
                rerun=self.how.rerun,
            )
            for i, point in enumerate(due, 1)
        ]

    def _launch(self, points: Sequence[Point], first: int, ledger: Ledger) -> None:
        place = quote(str(self.folder.resolve()))
        try:
            jobs = []
            for point in points:
                point.save(self.folder / point.name)
                folders = f"hydra.sweep.dir={place}", f"hydra.sweep.subdir={quote(point.name)}"
                jobs.append([*point.overrides, *folders])
            for job in self.launcher.launch(jobs, initial_job_idx=first):
                _ = job.return_value  # raises what the job raised
        except BrokenPipeError:  # whoever read our output has gone
            raise
        except Exception as error:  # a launcher's, or a full disk: the other points go on
            run.ended(refuse(error))
        finally:
            ledger.look(points)
            try:
                ledger.write()
            except OSError as error:  # sweep.json is older than the points' folders, which hold all
                refuse(error)


def _report(folder: Path, points: Sequence[Point]) -> str:
    """Write the report of this grid's points, and say where it is or that it failed."""
    try:
        places = [folder / point.name / "results.json" for point in points]
        written = report.write(folder, results=[place for place in places if place.exists()])
        return f"report: {os.path.relpath(written[0])} ({len(written)} files: tables, plots)"
    except Exception as error:
        run.ended(refuse(error))
        return "no report was written: see above; every result is whole"


def _values(override: Override) -> list[str]:
    """Return the override with each of its values, of which there may be one more than `MOST`."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        fix = "list them: KEY=1,2,3 or KEY=range(1,4)"
        raise ConfigError(key, override.input_line, "is no list of values", fix)
    values = itertools.islice(override.sweep_string_iterator(), MOST + 1)
    return [f"{key}={value}" for value in values]


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the sweep as Ctrl-C does: its job is ended, and sweep.json written."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
