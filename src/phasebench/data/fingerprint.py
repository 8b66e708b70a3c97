"""Hashes of what a result depends on besides its configuration: code of this package, and files that it reads."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

CHUNK = 1 << 20  # bytes


def code_hash(only: tuple[str, ...] = ("",), *, but: tuple[str, ...] = ()) -> str:
    """SHA-256 (hex) of the package's Python files whose path in it begins with one of `only` and with none of `but`."""
    root = Path(__file__).parents[1]
    found = sorted((file.relative_to(root).as_posix(), file) for file in root.rglob("*.py"))
    digest = hashlib.sha256()
    for name, file in found:
        if name.startswith(only) and not name.startswith(but):
            digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()


def content_hash(path: Path) -> str | None:
    """SHA-256 (hex) of a file, or of all files below a folder with their names; None where there is nothing.

    A file that has not changed since this process last read it is not read again.
    """
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{_file_hash(file)}\n".encode())
        return digest.hexdigest()
    return _file_hash(path) if path.is_file() else None


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
