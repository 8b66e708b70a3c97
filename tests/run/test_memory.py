"""Out of memory: recorded with the reason, and the rest goes on, as do later runs."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import psutil
import pytest

from commands import TINY, TINY_ENERGY, TINY_GRAD, Command


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process take 100 MB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 10**8, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
def test_a_training_that_the_host_cannot_hold_leaves_the_others(command: Command) -> None:
    batch = ["train.batch=30000", "train.validate_every=1000", "force=true"]
    outcome = command("bench=[energy,grad]", *TINY, TINY_ENERGY, TINY_GRAD, *batch)
    (results,) = outcome.results
    assert outcome.code == 2
    error = results["benches"]["energy"]["error"]
    assert error["type"] in ("RuntimeError", "MemoryError")
    assert "memory" in error["message"]
    assert results["benches"]["grad"]["status"] == "ok"
    assert results["energy_pass"] is None
