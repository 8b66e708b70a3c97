"""Where Hydra ends and phasebench begins: schemas, resolvers, a job, exit code. Only this module imports hydra."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from phasebench.config import BENCH_SCHEMAS, Config, ConfigError, keys_at, nearest, to_config

_exit_codes: list[int] = []  # one a job of this process; hydra.main itself returns nothing


def command(entry: Callable[[], None]) -> int:
    """Run Hydra's entry point; the exit code is the worst of its jobs' (0 passed, 1 a gate failed, 2 not measured).

    Hydra would print a traceback and exit with 1; here its errors become one message and exit code 2.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    _register()
    try:
        entry()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        return _refuse(explain(error))
    except OSError as error:
        return _refuse(ConfigError("hydra.run.dir", error.filename, f"cannot be written: {error.strerror}",
                                   "choose a folder that you may write to"))  # fmt: skip
    except KeyboardInterrupt:
        print("\ninterrupted; a training goes on from its last checkpoint next time", file=sys.stderr)
        return 130
    return max(_exit_codes, default=0)


def job(tree: DictConfig) -> None:
    """One run: check the composed configuration, run its benchmarks, write results.json, remember the exit code."""
    from phasebench.job import execute  # imports torch, which --help and --cfg must not

    hydra = HydraConfig.get()
    try:
        values = OmegaConf.to_container(tree, resolve=True)
        config = to_config(values)  # type: ignore[arg-type]
        code = execute(config, Path(hydra.runtime.output_dir), list(hydra.overrides.task))
    except (ConfigError, OmegaConfBaseException) as error:
        code = _refuse(explain(error))  # of a multirun, the other jobs go on
    _exit_codes.append(code)


def explain(error: Exception) -> ConfigError:
    """What a user can act on in an error of the configuration: key, value, choices, fix."""
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error)
    first, _, _ = str(error).partition("\n")
    if first.startswith("Could not override '"):
        return _unknown_key(first.split("'")[1])
    if first.startswith("Error merging override "):
        key, _, value = first.removeprefix("Error merging override ").partition("=")
        return ConfigError(key, value, str(error.__cause__).partition("\n")[0])
    return ConfigError("", "", f"the configuration cannot be composed: {first}")


def _unknown_choice(error: MissingConfigException) -> ConfigError:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    choices = list(error.options or [])
    if not group or not choices:
        return ConfigError("", "", str(error).partition("\n")[0])
    return ConfigError(group, name, f"unknown; choices: {', '.join(choices)}", nearest(name, choices))


def _unknown_key(dotted: str) -> ConfigError:
    value = next((o.partition("=")[2] for o in sys.argv[1:] if o.partition("=")[0] == dotted), "...")
    group, _, key = dotted.rpartition(".")
    keys = keys_at(group)
    if keys is None and "." in group:
        return _unknown_key(group)
    if keys is None or key in keys:
        return ConfigError(dotted, value, f"{group} is not part of this run", "name it in the list: bench=[ppl,vram]")
    return ConfigError(dotted, value, f"unknown key; keys of {group or 'the configuration'}: {', '.join(keys)}",
                       nearest(key, keys))  # fmt: skip


def _refuse(error: ConfigError) -> int:
    print(f"phasebench: {error}", file=sys.stderr)
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

    if importlib.metadata.version("torch").endswith("+cpu"):
        return False
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False  # no driver
    try:
        return pynvml.nvmlDeviceGetCount() > 0
    finally:
        pynvml.nvmlShutdown()
