"""One process at a time works in a folder: a run's, a point's, a sweep's, that of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from phasebench.config import ConfigError


@contextmanager
def locked(
    path: Path,
    refusal: ConfigError | None = None,
    waiting: str = "",
    tell: Callable[[str], object] = print,
) -> Iterator[None]:
    """Hold the lock file `path`, whose folder is made.

    While another process holds it: raises `refusal`, or tells `waiting` and waits. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if refusal:
            raise refusal from None
        tell(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
