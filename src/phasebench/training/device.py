"""The device that a name means, checked."""

from __future__ import annotations

import torch

from phasebench.config import ConfigError


def resolve_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else cpu.  Raises `ConfigError` for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            "device", name, "not a device", "device=auto, cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} found by torch {torch.__version__}"
        raise ConfigError(
            "device",
            name,
            f"no such GPU ({found}); choices: auto, cpu, cuda, cuda:N",
            "device=cpu, or install a CUDA build of torch",
        )
    return device


def device_name(device: torch.device) -> str:
    """The model of the GPU, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
