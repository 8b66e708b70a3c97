"""What children are asked to do in tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from phasebench.results.progress import Work


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def leave() -> None:
    sys.exit(3)


def tells(name: str) -> None:
    with Work(name, None) as work:
        work.show("4,096?")


def raises() -> None:
    raise RuntimeError("no cuBLAS")


def no_memory() -> None:
    raise MemoryError("10 GB")


def starts_another(pids: Path | str) -> None:
    """Start a process, say both ids in a file, and wait."""
    other = subprocess.Popen(["sleep", "60"])
    Path(f"{pids}.new").write_text(f"{os.getpid()} {other.pid}")
    Path(f"{pids}.new").rename(pids)
    time.sleep(60)


def prints() -> str:
    """Print, and tell what the standard descriptors are."""
    print("printed")
    return " ".join(os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in range(3))


def action(request: Any) -> Any:
    """What PLAN says for the request's gradient method: a result, or how to end without one."""
    plan = json.loads(os.environ["PLAN"])
    if request.limit_bytes is not None:
        return plan["limited"][str(request.seq)]
    return plan[request.model.ode.gradient]


def ends(how: str) -> None:
    if how == "kill":
        kill()
    if how == "hang":
        time.sleep(60)
    raise ValueError("broken arm")
