"""A measurement in a fresh process: the request and the result pass through JSON files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import phasebench


class ChildFailed(Exception):
    """The process ended without a result, with the reason."""


def run_child(
    command: Sequence[str], request: Mapping[str, Any], timeout_s: float
) -> dict[str, Any]:
    """Run `command REQUEST.json RESULT.json` and return the result that it wrote.

    The process finds this same phasebench.  Raises `ChildFailed` if it takes more than timeout_s seconds (it is killed
    then), is killed, fails, or writes no JSON object.
    """
    with tempfile.TemporaryDirectory(prefix="phasebench-") as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "result.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        try:
            done = subprocess.run(
                [*command, str(asked), str(answered)],
                env=child_environment(),
                timeout=timeout_s,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"took more than {timeout_s:g} s and was stopped") from None
        if done.returncode:
            raise ChildFailed(killed_by(done.returncode) or _failure(done.returncode, done.stderr))
        return _result(answered)


def child_environment() -> dict[str, str]:
    """This process' environment, in which a child finds this same phasebench."""
    paths = [str(Path(phasebench.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def killed_by(code: int) -> str | None:
    """What signal ended a process with that return code, in words; None if it ended by itself.

    >>> killed_by(-15), killed_by(1)
    ('killed by SIGTERM', None)
    """
    if code >= 0:
        return None
    name = signal.Signals(-code).name
    hint = ": the host's memory may have run out" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def _failure(code: int, stderr: str) -> str:
    lines = (
        stderr.strip().splitlines()
    )  # the last line of a traceback is the error; the others name folders
    return f"exit code {code}: {lines[-1] if lines else 'nothing on stderr'}"


def _result(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ChildFailed("ended without a result")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ChildFailed(f"its result is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ChildFailed("its result is not a JSON object")
    return found
