"""Where Hydra ends and phasebench begins: schemas, resolvers, a job, exit code.

Only the front imports hydra: this module, `phasebench.run.cli` and `phasebench.run.sweep.grid`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from phasebench.config import BENCH_SCHEMAS, Config, ConfigError, to_config
from phasebench.config import help as usage
from phasebench.results.jsonfile import Json
from phasebench.results.lock import locked
from phasebench.results.progress import Display, Work
from phasebench.run.errors import Unread, refuse, silence
from phasebench.run.gpus import scale_for
from phasebench.run.overrides import prepare
from phasebench.run.sweep.point import Point
from phasebench.run.sweep.state import state
from phasebench.run.sweep.worker import run_point

SWEEPER = {  # hydra/sweeper=resuming
    "_target_": "hydra_plugins.phasebench_sweeper.ResumingSweeper",
    "max_batch_size": None,  # points that a launcher gets at one time
    "params": None,  # axes that every run is crossed with: key -> values, as on the command line
    "runs": None,  # lists of overrides, each a run or a grid of them; null: one grid
    "best": None,  # metric by which each model's best settings are written; null: none
}

_exit_codes: list[int] = []  # one a job of this process; hydra.main itself returns nothing


def command(entry: Callable[[], None]) -> int:
    """Run Hydra's entry point; returns the worst exit code of its jobs.

    0: passed, 1: a gate failed, 2: not measured. Hydra would print a traceback and exit with 1;
    here its errors become one message and exit code 2.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    # torch's threads wait for each other by spinning, which beside a busy neighbour starves the one
    # that they wait for
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    register()
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
        with ExitStack() as stack:
            if _follows():  # torchrun's first process speaks and writes for all
                folder = stack.enter_context(TemporaryDirectory())
                sys.argv += [f"hydra.run.dir={folder}", "hydra.output_subdir=null"]
                stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            entry()
    except BrokenPipeError:  # whoever read our output has gone: python runner.py --help | head
        silence(sys.stdout)
        return 2
    except KeyboardInterrupt:
        print(
            "\ninterrupted; a training goes on from its last checkpoint, if it had one, next time",
            file=sys.stderr,
        )
        return 130
    except Exception as error:
        return 2 if _follows() else refuse(error, sys.argv[1:])
    return max(_exit_codes, default=0)


def _follows() -> bool:
    """Tell whether torchrun started this process, and not as the first one."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["RANK"] != "0"


def job(tree: DictConfig) -> None:
    """Run what a composed configuration asks for and remember the exit code.

    A point of a sweep runs in a process of its own.
    """
    hydra = HydraConfig.get()
    folder, overrides = Path(hydra.runtime.output_dir), list(hydra.overrides.task)
    try:
        if hydra.mode == RunMode.MULTIRUN:
            if "TORCHELASTIC_RUN_ID" in os.environ:
                problem = "a point of a sweep is a process of its own"
                raise ConfigError("torchrun", "-m", problem, "torchrun for single runs")
            code = _point(tree, folder, overrides)
        else:
            out, err = Unread(sys.stdout), Unread(sys.stderr)
            with redirect_stdout(out), redirect_stderr(err):  # type: ignore[type-var]
                code = single(tree, folder, overrides)
    except BrokenPipeError:  # whoever read our output has gone, which ends a sweep
        raise
    except Exception as error:  # the other points of a sweep go on
        code = 2 if _follows() and isinstance(error, ConfigError) else refuse(error)
    ended(code)


def single(tree: DictConfig, folder: Path, overrides: list[str]) -> int:
    """Run what a composed configuration asks for, in a folder of its own; returns the exit code.

    Raises `ConfigError` for bad input, and for what only a sweep has.
    """
    config = to_config(chosen(tree, overrides))
    preset = "sweep" in HydraConfig.get().runtime.choices
    if preset or config.sweep_name is not None or config.dry_run:
        raise ConfigError(
            "sweep_name",
            config.sweep_name,
            "is of a sweep, and this is a single run",
            "put -m (--multirun) before it: python runner.py -m +sweep=ode sweep_name=NAME",
        )
    with Display(Console()), Work("loading torch", None):  # which --help and --cfg must not
        from phasebench.run.job import execute

    busy = ConfigError(
        "hydra.run.dir", folder, "another run works there", "wait for its end, or choose another"
    )
    with locked(folder / ".lock", busy):
        return execute(config, folder, overrides)


def _point(tree: DictConfig, folder: Path, overrides: list[str]) -> int:
    """Run a point of a sweep, which phasebench's own sweeper has left in its folder."""
    if HydraConfig.get().sweeper["_target_"] != SWEEPER["_target_"]:
        label = f"point {folder.name}: {' '.join(overrides)}"
        Point(chosen(tree, overrides), tuple(overrides), label=label).save(folder)
    point = Point.load(folder)
    if isinstance(point.config, ConfigError):
        raise point.config
    if point.config.dry_run:  # of another sweeper, which has no list of what would run
        print(f"would run: {point.label}", flush=True)
        return 0
    print(point.label, flush=True)
    run_point(folder, point.config.job_timeout_s)
    return 2 if (code := state(folder, point).exit_code) is None else code


def chosen(tree: DictConfig, overrides: Sequence[str]) -> Json:
    """Return the composed values as plain ones, without those of benches that nobody chose.

    With bench=ppl, say, an experiment's values for bench.energy have no schema below them.
    """
    values: Json = OmegaConf.to_container(tree, resolve=True)  # type: ignore[assignment]
    words = [override.lstrip("+") for override in overrides]
    for name in BENCH_SCHEMAS.keys() & (values["bench"] or {}).keys():
        asked = any(word.startswith(f"bench.{name}.") for word in words)
        if OmegaConf.get_type(tree.bench, name) is dict and not asked:
            del values["bench"][name]
    return values


def ended(code: int) -> None:
    """Remember the exit code of a job, or of a sweep."""
    _exit_codes.append(code)


def register() -> None:
    """Tell Hydra the schemas and the resolvers of conf/."""
    store = ConfigStore.instance()
    store.store("config", Config, group="schema")
    for name, schema in BENCH_SCHEMAS.items():
        store.store(name, schema, group="schema/bench")
    store.store("resuming", SWEEPER, group="hydra/sweeper")
    resolvers = {"scale_for": scale_for, "sweep_dir": sweep_dir, "steps_in": steps_in}
    for name, resolver in {**resolvers, "usage": _usage}.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _usage(part: str, *, _root_: DictConfig) -> str:
    """Return a part of ``--help``, its groups or its keys; Hydra's template takes $ for its own."""
    if part == "groups":
        sources = _root_.hydra.runtime.config_sources
        text = usage.groups(Path(source.path) for source in sources if source.schema == "file")
    else:
        own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
        text = usage.keys(OmegaConf.to_container(own, resolve=True))  # type: ignore[arg-type]
    return text.replace("$", "$$")


def steps_in(time: float, dt: float) -> int:
    """Return how many steps of size dt last that time.

    Raises ValueError where dt does not divide it.

    >>> steps_in(1.0, 0.2)
    5
    """
    steps = round(time / dt) if dt > 0 else 0
    if steps < 1 or abs(steps * dt - time) > 1e-6 * time:
        raise ValueError(f"steps of {dt} do not make up {time}: choose a dt that divides it")
    return steps


def sweep_dir(name: str | None, stamp: str) -> str:
    """Return the folder of a sweep: one that its name tells, or one that nobody has used.

    Raises `ConfigError` for a name that would lead elsewhere.
    """
    if name is None:
        return f"outputs/{stamp}-sweep"
    if not re.fullmatch(r"\w[\w.+-]*", name):
        problem = "is not the name of a folder"
        raise ConfigError("sweep_name", name, problem, "letters, digits and ._+- only")
    return f"outputs/sweeps/{name}"
