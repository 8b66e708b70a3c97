"""Files that the user names, and hashes of files: of texts, of weights, of this package's code."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phasebench.config.fields import ConfigError


def user_path(text: str, key: str) -> Path:
    """Return the path that a key names; only a leading `~` has a meaning, the home folder.

    Raises `ConfigError` for `~name` where there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        fix = f"{key}=PATH without a leading ~, or as ./~..."
        raise ConfigError(key, text, f"has no such home folder ({error})", fix) from error


@contextmanager
def os_errors(key: str, value: object, fix: str) -> Iterator[None]:
    """Turn an `OSError` into a `ConfigError` with the path that failed and the key it came from."""
    try:
        yield
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        raise ConfigError(key, value, f"{path}{error.strerror or error}", fix) from error


def code_hash(only: tuple[str, ...] = ("",), *, but: tuple[str, ...] = ()) -> str:
    """Hash the package's Python files whose path begins with one of `only` and none of `but`.

    Returns a SHA-256 in hexadecimal, as all functions of this module do.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py"), key=lambda file: file.relative_to(root).as_posix()):
        name = file.relative_to(root).as_posix()
        if name.startswith(only) and not name.startswith(but):
            digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()


def code_file(target: str) -> str:
    """Return the file of the module of a dotted class; the name itself where it has none."""
    try:
        spec = importlib.util.find_spec(target.rpartition(".")[0])
    except (ImportError, ValueError):
        return target
    return (spec and spec.origin) or target


def content_hash(path: Path) -> str | None:
    """Hash a file, or all files below a folder with their names; None where there is nothing.

    A file that has not changed since this process last read it is not read again.
    """
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{content_hash(file)}\n".encode())
        return digest.hexdigest()
    if not path.is_file():
        return None
    stat = path.stat()
    return _file_hash(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_hash(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
