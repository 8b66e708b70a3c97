"""Several processes train as one that splits a batch into as many parts: with gloo, on this CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from commands import TINY, Command
from paths import ROOT
from phasebench.training import ranks
from phasebench.training.loop import partial_path
from tiny import CPU, pattern, tiny_model, train_tiny

torch.set_num_threads(1)
FORK = multiprocessing.get_context("fork")  # which need not import torch again


def together(function: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Call it in two processes that have met; returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}

    def call(rank: int) -> None:
        os.environ |= {**place, "RANK": str(rank), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
        ranks.join(CPU)
        function(*arguments)
        if rank:
            assert ranks.receive() is None
        ranks.leave()

    processes = [FORK.Process(target=call, args=(rank,)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def parts(dropout: float, count: int, path: Path, batches: Any = pattern) -> None:
    changes = {"steps": 20, "accumulate": count, "average": "ema", "average_decay": 0.9}
    train_tiny(tiny_model(dropout=dropout), path, changes, batches=batches)


def distance(a: Path, b: Path) -> float:
    one, other = load_file(a), load_file(b)
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_alone_nothing_is_sent() -> None:
    x = torch.ones(2)
    ranks.sum_over([x])
    ranks.announce(None)
    assert (ranks.size(), ranks.rank(), ranks.from_first(3.0)) == (1, 0, 3.0)
    assert torch.equal(x, torch.ones(2))


def test_two_processes_give_the_weights_of_one(tmp_path: Path) -> None:
    """With dropout those of two parts, bit for bit; without it those of the batch in one."""
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    parts(0.1, 2, one)
    assert together(parts, 0.1, 2, two) == [0, 0]
    assert distance(one, two) == 0
    parts(0.0, 1, one)
    assert together(parts, 0.0, 2, two) == [0, 0]
    assert 0 < distance(one, two) < 1e-6


def test_a_killed_rank_ends_the_other_and_the_next_start_goes_on(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    parts(0.1, 2, one)

    def killed(step: int) -> tuple[Tensor, Tensor]:
        if step == 10 and ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return pattern(step)

    codes = together(parts, 0.1, 2, two, killed)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, None)
    assert not two.exists()
    assert partial_path(two).exists()  # of step 7
    assert together(parts, 0.1, 2, two) == [0, 0]
    assert distance(one, two) == 0
    assert not partial_path(two).exists()


def test_torchrun_has_one_voice_and_one_result(tmp_path: Path, command: Command) -> None:
    words = [*TINY, "bench=ppl", "bench.ppl.baseline=null", f"cache_dir={tmp_path}/cache"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*launch, str(ROOT / "runner.py"), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("training 4 steps of 2 x 32 tokens") == 1, done.stderr
    assert done.stdout.count("INCOMPLETE") == 1
    assert len(list(tmp_path.rglob("results.json"))) == 1
    [weights] = (tmp_path / "cache" / "weights").glob("*.safetensors")
    alone = command(words, f"cache_dir={tmp_path}/alone train.accumulate=2")
    assert alone.code == 2  # no baseline
    assert distance(weights, tmp_path / "alone" / "weights" / weights.name) == 0


def test_more_processes_than_parts_of_a_batch_are_refused(
    command: Command, monkeypatch: Any
) -> None:
    monkeypatch.setattr(ranks, "size", lambda: 3)
    done = command(TINY, "bench=ppl bench.ppl.baseline=null")
    assert done.code == 2
    assert "train.batch=2: cannot be split into 3 parts" in done.err
    assert "fix: train.batch=3" in done.err
