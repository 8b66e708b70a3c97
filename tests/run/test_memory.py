"""Out of memory: recorded with the reason, and the rest goes on, as do later runs."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import psutil
import pytest
import torch

from commands import TINY, TINY_ENERGY, TINY_GRAD, TINY_PPL, Command

BIG = {  # what cannot fit into 1 GB, or (vram, in processes of their own) into any GPU
    "energy": "train.batch=20000 train.seq=64 model.dim=64",
    "ppl": "data.synthetic.rows=6000 bench.ppl.batch=1000 bench.ppl.seq=64 model.hidden=65536",
    "vram": "bench.vram.batch=100000 bench.vram.seq=2048 model.dim=512 "
    "bench.vram.arms=[backprop,adjoint_exact]",
}


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process take 1.2 GB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + 12 * 10**8
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
def test_a_training_that_the_host_cannot_hold_leaves_the_others(command: Command) -> None:
    batch = ["train.batch=300000", "train.steps=1", "force=true"]
    outcome = command("bench=[energy,grad]", *TINY, TINY_ENERGY, TINY_GRAD, *batch)
    (results,) = outcome.results
    assert outcome.code == 2
    error = results["benches"]["energy"]["error"]
    assert error["type"] in ("RuntimeError", "MemoryError")
    assert "memory" in error["message"]
    assert results["benches"]["grad"]["error"] is None
    assert results["energy_pass"] is None


@pytest.mark.parametrize(
    ("bench", "place"),
    [
        ("energy", "phasebench.training.step.TrainStep.__call__"),
        ("ppl", "phasebench.bench.ppl.bench.score_split"),
    ],
)
def test_a_device_out_of_memory_leaves_the_others(
    command: Command, monkeypatch: pytest.MonkeyPatch, bench: str, place: str
) -> None:
    """As torch raises it on a GPU: in a training, and in scoring."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(place, full)
    own = TINY_PPL if bench == "ppl" else TINY_ENERGY
    (results,) = command(f"bench=[{bench},grad]", *TINY, own, TINY_GRAD).results
    assert results["benches"][bench]["error"]["type"] == "OutOfMemoryError"
    assert "2.00 GiB" in results["benches"][bench]["error"]["message"]
    assert results["benches"]["grad"]["status"] == "ok"
    assert results[f"{bench}_pass"] is None


@pytest.mark.gpu
@pytest.mark.parametrize("bench", BIG)
def test_what_a_gpu_cannot_hold_leaves_the_others(command: Command, bench: str) -> None:
    words = [word for word in TINY if word != "device=cpu"]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1e9 / total)
    try:
        outcome = command(f"bench=[{bench},grad] device=cuda", *words, TINY_GRAD, BIG[bench])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    (results,) = outcome.results
    entry = results["benches"][bench]
    assert outcome.code == 2
    assert results["benches"]["grad"]["status"] == "ok"
    if bench == "vram":  # whose arms are recorded one by one
        assert {arm["status"] for arm in entry["details"]["arms"].values()} == {"oom"}
        assert results["vram_pass"] is None
    else:
        assert entry["error"]["type"] == "OutOfMemoryError"
