"""Strict JSON on disk: values that JSON can hold, text that people can read, files that are whole
or absent.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from phasebench.config import ConfigError

Json = dict[str, Any]  # an object of JSON
LINE = 140  # characters
_STREAMS = "/dev/std", "/dev/fd/", "/proc/"  # links to whatever a shell has redirected them to


def plain(value: Any, at: str, lost: dict[str, str]) -> Any:
    """`value` as dicts, lists, strings, finite numbers, booleans and None.

    A float that is not finite becomes None, and `lost` gets its place (a dotted path below `at`)
    and the reason. Raises TypeError, with the place, for what JSON cannot hold.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        lost[at] = f"not finite: {float(value)}"
        return None
    if isinstance(value, str | os.PathLike):
        return str.__str__(value) if isinstance(value, str) else os.fsdecode(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        texts = [str(key) for key in value]
        if len(set(texts)) != len(texts):
            raise TypeError(f"{at}: two keys have the same text")
        places = [f"{at}.{text}" if at else text for text in texts]
        items = zip(value.values(), places, strict=True)
        return dict(zip(texts, (plain(*item, lost) for item in items), strict=True))
    if isinstance(value, list | tuple):
        return [plain(item, f"{at}[{index}]", lost) for index, item in enumerate(value)]
    # a scalar or array of numpy or torch, neither of which is imported here
    converted = getattr(value, "tolist", lambda: value)()
    if type(converted) is type(value):  # numpy's long double converts to itself
        raise TypeError(f"{at}: JSON cannot hold a {type(value).__name__}")
    return plain(converted, at, lost)


def dumps(value: Any, indent: int = 0) -> str:
    """JSON text of plain values. Scalars that belong together share a line: a list of them, a small
    group of keys.

    Raises ValueError for NaN and Infinity.
    """
    line = json.dumps(value, allow_nan=False)
    if not isinstance(value, dict | list):
        return line
    items = value.values() if isinstance(value, dict) else value
    is_short = isinstance(value, list) or len(line) + 2 * indent <= LINE
    if is_short and not any(isinstance(item, dict | list) for item in items):
        return line
    texts = [dumps(item, indent + 1) for item in items]
    if isinstance(value, dict):
        texts = [f"{json.dumps(key)}: {text}" for key, text in zip(value, texts, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    pad = "\n" + "  " * indent
    return opening + ",".join(f"{pad}  {text}" for text in texts) + pad + closing


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file (text as UTF-8) so that a reader, or a crash, sees none of it or all.

    The first one of a process in a folder removes what killed processes have left there. Raises
    `OSError` naming the path.
    """
    temporary = _temporary(path)
    try:
        _remove_leftovers(path.parent)
        with temporary.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # of a full disk it names no file; else the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    name = f".phasebench-{platform.node()}-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    return path.with_name(name)


@functools.lru_cache(maxsize=1024)
def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files whose process was killed on this machine."""
    for file in folder.glob(f".phasebench-{platform.node()}-*-*.tmp"):
        process = file.name.rsplit("-", 2)[1]
        if not (process.isdigit() and psutil.pid_exists(int(process))):
            file.unlink(missing_ok=True)


def destination(path: Path | str, key: str, name: str, begins: bytes = b"") -> Path:
    """The file that `path` means, in a folder that exists and can be written; a folder means the
    file `name` in it.

    Links are followed, and missing folders made. Raises `ConfigError` for `key` where no file can
    be written, and where there is something that is not ours to replace: a device such as
    /dev/stdout, or a file that does not begin with `begins` (an empty one may be replaced).
    """
    try:
        is_folder = str(path).endswith(os.sep) or Path(path).is_dir()
        target = (Path(path) / name if is_folder else Path(path)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        theirs = os.path.abspath(path).startswith(_STREAMS) or (
            target.exists() and not target.is_file()
        )
        if begins and target.is_file() and target.stat().st_size:
            with target.open("rb") as file:
                theirs |= file.read(len(begins)) != begins
        probe = _temporary(target)
        try:
            probe.write_bytes(b"probe")
        finally:
            probe.unlink(missing_ok=True)
    # ValueError: a null byte; RuntimeError: a circle of links
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        fix = "choose a file in a writable folder"
        raise ConfigError(key, path, f"cannot be written: {reason}", fix) from error
    if theirs:
        raise ConfigError(key, path, f"exists and is no {name}", "choose another file")
    return target
