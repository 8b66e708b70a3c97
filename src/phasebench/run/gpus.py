"""The NVIDIA GPUs of this machine, told by the driver: no torch is imported to find out."""

from __future__ import annotations

import importlib.metadata
import os

import pynvml


def scale_for(device: str) -> str:
    """The scale that `scale=auto` means: spec where an NVIDIA GPU will be used, else laptop."""
    return "spec" if device != "cpu" and (device != "auto" or has_gpu()) else "laptop"


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU that torch can use."""
    return bool(gpu_names())


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
