"""What kernels and libraries take: the figures that an H100 showed, and what follows from torch's
own headers.
"""

from __future__ import annotations

import pytest
import torch

from phasebench.bench.vram.gpus import GPUS, MIB, Gpu, attention_backward_bytes, reduction_bytes
from phasebench.bench.vram.predict import predicting
from phasebench.config import GPUS as NAMES

H100 = GPUS["h100"]


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def test_the_configuration_offers_exactly_the_table() -> None:
    assert set(NAMES) == set(GPUS)


def test_workspaces_are_those_of_two_threads_and_a_stream() -> None:
    assert H100.workspaces() == 64 * MIB  # of the kept run: 65 or 66 MiB, with cuBLASLt's
    assert H100.workspaces(streams=1) == 96 * MIB
    assert GPUS["a100"].workspaces() == 2 * (8 * MIB + 128 * 1024)


@pytest.mark.parametrize("shape", [(4096, 2048), (2, 2048, 2048), (1, 4096, 2048)])
def test_a_sum_over_tokens_takes_what_the_kept_run_showed(shape: tuple[int, ...]) -> None:
    """Its adjoint arm had 64 MiB (and 512 bytes of counters) beyond tensors and workspaces."""
    assert reduction_bytes(empty(*shape), list(range(len(shape) - 1)), H100) == 64 * MIB


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((64, 64, 2048), [1]),
        ((64, 2048), [0]),
        ((4096, 2048), [1]),
        ((4096, 2048), [-1]),
        ((0, 8), [0]),
        ((), []),
    ],
)
def test_other_sums_take_nothing(shape: tuple[int, ...], dims: list[int]) -> None:
    assert reduction_bytes(empty(*shape), dims, H100) == 0


def test_a_sum_of_all_takes_little() -> None:
    assert 0 < reduction_bytes(empty(4096, 2048), [], H100) < MIB


def test_attention_in_half_precision_sums_in_float32() -> None:
    q = empty(2, 8, 64, 32)
    assert attention_backward_bytes(q) == 4 * 2 * 8 * 64
    assert attention_backward_bytes(q.half()) == 4 * 2 * 8 * 64 * 33


def test_a_prediction_for_a_gpu_counts_a_kernel_s_own_memory_while_it_runs() -> None:
    with predicting(H100) as tracker:
        x = torch.zeros(4096, 2048)
        before = tracker.allocated()
        x.sum(0)
        assert tracker.peak() - before == 64 * MIB + 8192
        assert tracker.allocated() == before


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(4096, 2048), (2, 2048, 1024), (2048, 512), (64, 64, 2048)])
def test_reductions_on_this_gpu(shape: tuple[int, ...]) -> None:
    device = torch.device("cuda")
    x, dims = torch.zeros(shape, device=device), list(range(len(shape) - 1))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    total = x.sum(dims)
    taken = torch.cuda.max_memory_allocated() - before - total.nbytes
    assert taken == pytest.approx(reduction_bytes(x, dims, Gpu.of(device)), abs=MIB)
