"""Memory that a CUDA device's libraries and kernels take for themselves, beside tensors.

    cuBLAS        One workspace for each thread that multiplies, the forward pass' and autograd's,
                  and one more for the stream on which CUDA graphs are recorded. Its size follows
                  from the device's generation: pytorch, aten/src/ATen/cuda/CublasHandlePool.cpp
                  (`parseChosenWorkspaceSize`).
    reductions    Partial sums of a kernel whose blocks share an output: pytorch,
                  aten/src/ATen/native/cuda/Reduce.cuh (`setReduceConfig`, `global_memory_size`),
                  which torch installs among its headers. A sum over the rows of a (4096, 2048)
                  float32 matrix takes 64 MiB on an H100: measured, and computed here.
    attention     The backward pass' row sums and, in half precision, its float32 sum of dL/dq:
                  pytorch, aten/src/ATen/native/transformers/cuda/attention_backward.cu.

Not modelled: cuBLASLt's 1 MiB a thread (torch 2.11), and CUBLAS_WORKSPACE_CONFIG, which would
change the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phasebench.bench.vram.allocator import MIB

THREADS_THAT_MULTIPLY = 2
_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Gpu:
    """The properties that memory depends on."""

    name: str
    major: int  # of the compute capability
    processors: int  # streaming multiprocessors
    threads: int  # of each, at most

    def workspaces(self, streams: int = 0) -> int:
        """Return the bytes of cuBLAS workspaces; `streams`: of further streams with products."""
        each = 32 * MIB if self.major in (9, 10, 12) else 2 * 4 * MIB + 8 * 16 * 1024
        return (THREADS_THAT_MULTIPLY + streams) * each

    @staticmethod
    def of(device: torch.device) -> Gpu:
        """The device that is there."""
        found = torch.cuda.get_device_properties(device)
        return Gpu(
            found.name,
            found.major,
            found.multi_processor_count,
            found.max_threads_per_multi_processor,
        )


# compute capability, multiprocessors, threads of each: NVIDIA's data sheets, programming guide
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("h100", 9, 132, 2048),
        Gpu("a100", 8, 108, 2048),
        Gpu("rtx4090", 8, 128, 1536),
        Gpu("rtx3090", 8, 82, 1536),
        Gpu("rtx3070", 8, 46, 1536),
    )
}


def attention_backward_bytes(q: Tensor) -> int:
    """Return the bytes of fused attention's backward pass for queries (B, heads, T, d)."""
    rows = q.numel() // q.shape[-1]
    return 4 * rows + (4 * q.numel() if q.dtype in _HALVES else 0)


def reduction_bytes(x: Tensor, dims: Sequence[int], gpu: Gpu) -> int:
    """Return the bytes that a sum (or mean, or maximum) of x over those axes takes for itself.

    Examples:
        >>> reduction_bytes(torch.empty(4096, 2048, device="meta"), [0], GPUS["h100"])
        67108864
        >>> reduction_bytes(torch.empty(4096, 2048, device="meta"), [1], GPUS["h100"])
        0
    """
    dims = [d % x.ndim for d in dims] or list(range(x.ndim))
    outputs = math.prod(n for d, n in enumerate(x.shape) if d not in dims)
    if x.numel() == 0 or x.ndim == 0:
        return 0
    inputs = x.numel() // outputs
    fastest = min((d for d in range(x.ndim)), key=lambda d: (x.shape[d] == 1, x.stride(d)))
    along, contiguous = fastest in dims, x.stride(fastest) == 1
    vector = 1 if along or not contiguous else math.gcd(4, x.shape[fastest])  # outputs a thread
    # a block of threads, at first of the largest powers of two that are filled
    threads = 512 // vector
    sizes = (outputs // vector, inputs)
    if along:
        sizes = (inputs // (4 if inputs >= 128 and contiguous else 1), outputs)
    wide, high = (min(threads, 1 << (max(1, n).bit_length() - 1)) for n in sizes)
    height = min(high, threads // min(wide, 32))
    width = min(wide, threads // height)
    values = -(-inputs // (width if along else 1))
    if values < min(16 * height, 256):
        return 0
    values = -(-values // height)
    grid = -(-(outputs // vector) // (1 if along else width))
    target = gpu.processors * (gpu.threads // (width * height))
    if values < 256 or grid > target:
        return 0
    # that share an output
    blocks = max(min(-(-target // grid), -(-values // 16)), -(-values // 256))
    if blocks < 2:
        return 0
    return max(4, x.element_size()) * outputs * blocks * (1 if along else width * vector)
