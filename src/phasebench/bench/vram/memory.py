"""Memory of this process on a CUDA device: what torch's allocator hands out and reserves, and what NVML sees."""

from __future__ import annotations

import os

import pynvml
import torch


class CudaMeter:
    """The bytes that torch's caching allocator has handed out on a device: a `Meter`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def allocated(self) -> int:
        """Bytes live now."""
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:
        """The most bytes live at one time since the last reset."""
        return torch.cuda.max_memory_allocated(self.device)

    def reset_peak(self) -> None:
        """Start a new peak from what is live now."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def reserved(self) -> int:
        """Bytes that the allocator has taken from the device and not given back: live tensors and its cache."""
        return torch.cuda.memory_reserved(self.device)


class NotTold(Exception):
    """NVML does not tell this process' memory, with the reason."""


def process_bytes(device: torch.device) -> int:
    """Device memory of this process as NVML counts it: the CUDA context, libraries and all that torch has reserved.

    torch gives no memory back on its own, so that the value at the end of a program is also its peak.
    Raises `NotTold` where NVML is missing, refuses, or does not know this process (in a container it may not).
    """
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(
                f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            )
            used = [
                p.usedGpuMemory
                for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
                if p.pid == os.getpid()
            ]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise NotTold(f"NVML: {error}") from None
    if not used:
        raise NotTold(
            "NVML does not list this process (another process namespace, as in a container?)"
        )
    if used[0] is None:
        raise NotTold("NVML lists this process without its memory")
    return int(used[0])
