"""Where Hydra ends and phasebench begins: schemas, resolvers, a job, exit code. Only this module imports hydra."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasebench.config import BENCH_SCHEMAS, Config, ConfigError
from phasebench.validation import keys_at, nearest, to_config

_exit_codes: list[int] = []  # one a job of this process; hydra.main itself returns nothing


def command(entry: Callable[[], None]) -> int:
    """Run Hydra's entry point; the exit code is the worst of its jobs' (0 passed, 1 a gate failed, 2 not measured).

    Hydra would print a traceback and exit with 1; here its errors become one message and exit code 2.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    # torch's threads wait for each other by spinning; beside a busy neighbour that starves the one they wait for
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _register()
    try:
        entry()
    except BrokenPipeError:  # whoever read our output has gone: python runner.py --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; a training goes on from its last checkpoint, if it had one, next time", file=sys.stderr)
        return 130
    except Exception as error:
        return _refuse(error)
    return max(_exit_codes, default=0)


def job(tree: DictConfig) -> None:
    """One run: check the composed configuration, run its benchmarks, write results.json, remember the exit code."""
    from phasebench.job import execute  # imports torch, which --help and --cfg must not

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        print(f"#{hydra.job.num} {' '.join(hydra.overrides.task)}", flush=True)
    try:
        config = to_config(chosen(tree, list(hydra.overrides.task)))
        if config.output and hydra.mode == RunMode.MULTIRUN:
            raise ConfigError("output", config.output, "every job of a sweep would write there",
                              "leave it out: each job has its results.json in its own folder")  # fmt: skip
        code = execute(config, Path(hydra.runtime.output_dir), list(hydra.overrides.task))
    except Exception as error:  # of a multirun, the other jobs go on
        code = _refuse(error)
    _exit_codes.append(code)


def chosen(tree: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """The composed configuration as plain values, without those that an experiment has for benches of other runs.

    With bench=ppl, say, an experiment's values for bench.energy have no schema below them: nobody chose that bench.
    """
    values: dict[str, Any] = OmegaConf.to_container(tree, resolve=True)  # type: ignore[assignment]
    for name in [name for name in values["bench"] or {} if name in BENCH_SCHEMAS]:
        asked = any(override.lstrip("+").startswith(f"bench.{name}.") for override in overrides)
        if OmegaConf.get_type(tree.bench, name) is dict and not asked:
            del values["bench"][name]
    return values


def explain(error: Exception) -> ConfigError | None:
    """What a user can act on in an error: key, value, choices, fix; None for an error that is not the input's."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    if isinstance(error, OSError) and error.filename:
        return ConfigError("", "", f"{error.filename}: {error.strerror}", "choose a folder that you may write to "
                           "(hydra.run.dir, hydra.sweep.dir, output or cache_dir)")  # fmt: skip
    first, _, _ = str(error).partition("\n")
    if first.startswith("Could not override '"):
        return _unknown_key(first.split("'")[1])
    if first.startswith("Error merging override "):
        key, _, value = first.removeprefix("Error merging override ").partition("=")
        return ConfigError(key, value, str(error.__cause__).partition("\n")[0])
    if first.startswith("Config group override must be"):
        return ConfigError("", "", first, "choose an option of the group, such as bench=all; --help lists them")
    if first.startswith("Ambiguous value for argument"):
        return ConfigError("", "", first, "for a sweep over several values put -m (--multirun) before them")
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ConfigError("", "", f"the configuration cannot be composed: {first}")
    return None


def _unknown_choice(error: MissingConfigException) -> ConfigError:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    choices = list(error.options or [])
    if not group or not choices:
        return ConfigError("", "", str(error).partition("\n")[0])
    return ConfigError(group, name, f"unknown; choices: {', '.join(choices)}", nearest(name, choices))


def _unknown_key(dotted: str) -> ConfigError:
    value = next((o.partition("=")[2] for o in sys.argv[1:] if o.partition("=")[0] == dotted), "...")
    group, _, key = dotted.rpartition(".")
    if dotted.startswith("scale."):
        fix = "set the key that uses it (model.dim, train.steps, ...), or name the scale: scale=laptop"
        return ConfigError(dotted, value, "scale=auto takes its sizes from scale=seed or scale=laptop", fix)
    keys = keys_at(group)
    if keys is None:
        return _unknown_key(group)
    if key in keys:
        return ConfigError(dotted, value, f"{group} is not part of this run", "name it in the list: bench=[ppl,vram]")
    return ConfigError(dotted, value, f"unknown key; keys of {group or 'the configuration'}: {', '.join(keys)}",
                       nearest(key, keys))  # fmt: skip


def _refuse(error: Exception) -> int:
    message = explain(error)
    if message is None:
        traceback.print_exception(error)
        print("phasebench: this is a bug; please report it with the lines above", file=sys.stderr)
    else:
        print(f"phasebench: {message}", file=sys.stderr)
    return 2


def _register() -> None:
    store = ConfigStore.instance()
    store.store("config", Config, group="schema")
    for name, schema in BENCH_SCHEMAS.items():
        store.store(name, schema, group="schema/bench")
    OmegaConf.register_new_resolver("scale_for", scale_for, replace=True)


def scale_for(device: str) -> str:
    """The scale that `scale=auto` means: seed where an NVIDIA GPU will be used, else laptop. Does not import torch."""
    if device == "cpu" or (device == "auto" and not _has_gpu()):
        return "laptop"
    return "seed"


def _has_gpu() -> bool:
    import pynvml

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    if hidden or importlib.metadata.version("torch").endswith("+cpu"):
        return False
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False  # no driver
    try:
        return pynvml.nvmlDeviceGetCount() > 0
    finally:
        pynvml.nvmlShutdown()
