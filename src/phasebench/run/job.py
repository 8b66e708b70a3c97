"""One run: the benchmarks that a `Config` asks for, one after the other, into one results.json."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

from rich.console import Console

from phasebench.bench import estimate
from phasebench.bench.environment import environment
from phasebench.bench.workbench import Workbench
from phasebench.config import Config, ConfigError
from phasebench.report import trackers as track
from phasebench.report.summary import render
from phasebench.results.conditions import check
from phasebench.results.file import ResultsFile
from phasebench.results.jsonfile import Json
from phasebench.results.progress import Display, Work
from phasebench.training import ranks


def bench_module(name: str) -> ModuleType:
    """Import a benchmark.

    It has check(workbench, config), which raises ConfigError, and run(workbench, config) ->
    BenchResult.
    """
    return importlib.import_module(f"phasebench.bench.{name}.bench")


def execute(config: Config, out: Path, overrides: list[str], point: Json | None = None) -> int:
    """Run the benchmarks, write results.json after each, print the table; returns the exit code.

    `point`: a sweep's (`Point.facts`). A benchmark that raises is recorded as failed, and the
    others go on. Raises `ConfigError` for bad input.
    """
    workbench = Workbench(config, out, Console())
    ranks.join(workbench.device)
    try:
        if ranks.rank():
            workbench.weights.follow()
            return 0
        return _execute(workbench, overrides, point)
    finally:
        ranks.leave()


def _execute(workbench: Workbench, overrides: list[str], point: Json | None) -> int:
    _show_notices()
    config, out, console = workbench.config, workbench.out, workbench.console
    results = ResultsFile(
        out / "results.json",
        config=config.recorded(),
        device=str(workbench.device),
        overrides=overrides,
        environment=environment(str(workbench.device)),
        copy_to=config.output,
        point=point,
    )
    beside, benches = (point or {}).get("side_by_side", 1), len(config.bench)
    try:
        with Display(console, live=beside == 1), Work("reading and checking", benches) as work:
            _prepare(workbench, results)
            for number, name in enumerate(config.bench, 1):
                work.label = f"bench {number} of {benches}: {name}"
                work.show()
                _measure(name, workbench, results, beside)
                work.done = number
    finally:
        final = results.close()
    render(final, console, Path(os.path.relpath(results.path)), brief=point is not None)
    if "vram" in config.bench:  # only its picture needs matplotlib, which takes a second to load
        with Display(console), Work("drawing", None):
            from phasebench.report.plots.memory import draw

            picture = draw(final, out)
        if picture:
            workbench.say(f"plot: {os.path.relpath(picture)}")
    tracked = [_track(name, final, results.path.parent, console) for name in config.track]
    return results.exit_code if all(tracked) else 2


class _Notices(logging.Handler):
    """Writes to what stderr is now: the display puts itself in its place while it is open."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def _show_notices() -> None:
    """Let the modules' log messages, such as that a training is resumed, reach the user."""
    log = logging.getLogger("phasebench")
    log.handlers = [_Notices()]
    log.setLevel(logging.INFO)


def _prepare(workbench: Workbench, results: ResultsFile) -> None:
    """Fail early: whatever can be refused is refused before anything is trained or measured."""
    config, on_cpu = workbench.config, workbench.device.type == "cpu"
    try:
        if config.scale.get("name") == "spec" and "spec" in config.scale and on_cpu:
            raise ConfigError(
                "scale",
                "auto",
                "there is an NVIDIA GPU, so this means spec, but torch cannot use it",
                "device=cpu for the laptop scale, or a CUDA build of torch that fits the driver",
            )
        track.check(config.track)
        workbench.prepare()
        for name, values in config.bench.items():
            bench_module(name).check(workbench, values)
        if told := estimate.slow(config, lambda: workbench.weights, workbench.device):
            workbench.say(told, "bold yellow")
    except ConfigError as error:
        for name in config.bench:
            results.fail(name, error, 0.0)
        raise
    text = workbench.text_facts() if workbench.needs_text else None
    results.set_data(text, check(config, text))


def _track(name: str, results: Json, folder: Path, console: Console) -> bool:
    """Log the results with a tracker; one that fails (no network, say) leaves them whole."""
    try:
        place = track.log(results, folder, name)
    except Exception:
        console.print(
            f"{name}: not logged; {folder}/results.json is whole", style="bold red", markup=False
        )
        console.print(traceback.format_exc(), markup=False, highlight=False)
        return False
    console.print(f"{name}: {place}", markup=False, highlight=False, soft_wrap=True)
    return True


def _measure(name: str, workbench: Workbench, results: ResultsFile, side_by_side: int) -> None:
    workbench.say(f"bench {name}")
    results.start(name)
    start = time.perf_counter()
    try:
        result = bench_module(name).run(workbench, workbench.config.bench[name])
        if side_by_side > 1:
            result.notices.append(
                f"up to {side_by_side} jobs of the sweep ran at one time on this machine: "
                "durations and tokens/s are not comparable"
            )
        results.finish(name, result, time.perf_counter() - start)
        return
    except Exception as error:  # the other benchmarks go on, and results.json says what it was
        trace = None if isinstance(error, ConfigError) else traceback.format_exc()
        results.fail(name, error, time.perf_counter() - start, trace)
    workbench.release()  # now that the error, and all that it holds, is gone
