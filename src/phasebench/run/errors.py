"""What a user can act on in an error, in one message; refused input has exit code 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from phasebench.config import BENCH_SCHEMAS, ConfigError, nearest

_ROLES = (".baseline", ".reference")  # of other models in a bench
_FOLDERS = "hydra.run.dir, hydra.sweep.dir, output or cache_dir"


def explain(error: BaseException, words: Sequence[str] = ()) -> ConfigError | None:
    """Return key, value, choices and fix of an error; None for one that is not the input's.

    `words` are the command's overrides.
    """
    key = getattr(error.__cause__, "full_key", None) or ""
    for reason in (error, error.__cause__ or error.__context__):  # of a resolver
        if isinstance(reason, ConfigError):
            return reason
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        problem = f"unknown; choices: {', '.join(error.options)}"
        return ConfigError(group, name, problem, nearest(name, error.options))
    if isinstance(error, OSError) and error.filename:
        fix = f"choose a folder that you may write to and that has room ({_FOLDERS})"
        return ConfigError("", "", f"{error.filename}: {error.strerror}", fix)
    for word in words:
        name, _, value = word.lstrip("+").partition("=")
        group = ".".join(name.split(".")[:3])
        if isinstance(error, AssertionError) and group.endswith(_ROLES):  # OmegaConf's, if null
            fix = f"choose that model too: model@{group}=gpt"
            return ConfigError(name, value, f"{group} is not part of this run", fix)
        if not isinstance(error, HydraException) or not key or not f"{name}.".startswith(f"{key}."):
            continue
        if name.startswith("scale."):
            problem = "scale=auto takes its sizes from scale=spec or scale=laptop"
            fix = "set the key that uses it (model.dim, train.steps, ...), or name the scale: "
            return ConfigError(name, value, problem, fix + "scale=laptop")
        if key.removeprefix("bench.") in BENCH_SCHEMAS:
            chosen = next((w[6:].strip("[]") for w in words if w.startswith("bench=")), "all")
            fix = f"name it in the list: bench=[{chosen},{key[6:]}]"
            return ConfigError(name, value, f"{key} is not part of this run", fix)
        return ConfigError(name, value, str(error.__cause__).partition("\n")[0])
    frames = [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, HydraException | OmegaConfBaseException | MissingConfigException) or (
        frames and frames[-1].startswith(("hydra.", "omegaconf."))  # some are bare ValueErrors
    ):
        causes = (str(each).partition("\n")[0] for each in (error, error.__cause__) if each)
        return ConfigError("", "", f"the configuration cannot be composed: {': '.join(causes)}")
    return None


def refuse(error: BaseException, words: Sequence[str] = ()) -> int:
    """Say what is wrong, in one message if it is the input; returns the exit code, 2."""
    message = explain(error, words)
    if message is None:
        traceback.print_exception(error)
        print("phasebench: this is a bug; please report it with the lines above", file=sys.stderr)
    else:
        print(f"phasebench: {message}", file=sys.stderr)
    return 2


class Unread:
    """A stream that falls silent when whoever read it has gone, so that a run goes on."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            silence(self.stream)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            silence(self.stream)


def silence(stream: TextIO) -> None:
    """Send all that is written to a stream from now on to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
