"""The NVIDIA GPUs of this machine, told by the driver: no torch is imported to find out."""

from __future__ import annotations

import importlib.metadata
import os

import pynvml


def uses_gpu(device: str) -> bool:
    """Tell whether a run on the device (auto, cpu, cuda, cuda:N) uses an NVIDIA GPU."""
    return device != "cpu" and (device != "auto" or bool(gpu_names()))


def scale_for(device: str) -> str:
    """Return the scale that `scale=auto` means: spec where a GPU will be used, else laptop."""
    return "spec" if uses_gpu(device) else "laptop"


def gpu_names() -> set[str]:
    """The models of this machine's GPUs; none if torch cannot use any."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    if hidden or importlib.metadata.version("torch").endswith("+cpu"):
        return set()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return set()  # no driver
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return {str(pynvml.nvmlDeviceGetName(handle)) for handle in handles}
    finally:
        pynvml.nvmlShutdown()
