"""The environment of a run: what else its numbers depend on. Neither the host's name nor any folder
is recorded.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

import phasebench
from phasebench.bench.child import usable_cores
from phasebench.config.files import code_hash

PACKAGES = (
    "torch",
    "hydra-core",
    "omegaconf",
    "datasets",
    "tokenizers",
    "safetensors",
    "nvidia-ml-py",
)
GIT_TIMEOUT_S = 10.0


class Unknown(Exception):
    """Something that cannot be told, with the reason."""


def environment(device: str) -> dict[str, Any]:
    """Commit, versions, CPU and GPU of this process; sizes in bytes.

    What cannot be told is None, and ``null_reasons`` says why under its dotted key.
    """
    reasons: dict[str, str] = {}

    def known(key: str, ask: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ask(*arguments)
        except Unknown as unknown:
            reasons[key] = str(unknown)
            return None

    if torch.version.cuda is None:
        reasons["torch_cuda"] = "a build of torch without CUDA"
    return {
        "phasebench": phasebench.__version__,
        "code": code_hash(but=("report/", "run/")),  # of all that measures
        "git": known("git", _git, Path(phasebench.__file__)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: known(f"packages.{name}", _version, name) for name in PACKAGES},
        "cpu": known("cpu", _cpu_model),
        "cpu_cores": os.cpu_count(),
        "cpu_cores_usable": usable_cores(),
        "ram_bytes": psutil.virtual_memory().total,
        "torch_threads": torch.get_num_threads(),
        "torch_cuda": torch.version.cuda,
        "driver": known("driver", _driver),
        "gpu": known("gpu", _gpu, torch.device(device)),
        "null_reasons": reasons,
    }


def _git(source: Path) -> dict[str, Any]:
    """Commit of the checkout that holds a source file, and whether any file in it differs from that
    commit.

    A package installed below somebody else's checkout is not part of that: the file must be
    tracked.
    """
    # told of a copy that is no checkout, as on a machine of a cluster
    if told := os.environ.get("PHASEBENCH_COMMIT"):
        return {"commit": told, "dirty": False, "told_by": "PHASEBENCH_COMMIT"}
    _ask_git(source, "ls-files", "--error-unmatch", source.name)
    commit = _ask_git(source, "rev-parse", "--verify", "HEAD").strip()
    return {"commit": commit, "dirty": bool(_ask_git(source, "status", "--porcelain"))}


def _ask_git(source: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(source.parent), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise Unknown("git is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unknown(f"git {arguments[0]} gave no answer in {GIT_TIMEOUT_S:.0f} s") from None
    if done.returncode:  # git's own message would name folders
        raise Unknown(
            "not in a git checkout with a commit that git trusts "
            f"(git {arguments[0]}: {done.returncode})"
        )
    return done.stdout


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Unknown("not installed") from None


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    if not model:
        raise Unknown("the operating system does not name it")
    return model


def _driver() -> dict[str, Any]:
    """Version of the NVIDIA driver, and of the newest CUDA that it supports."""
    try:
        pynvml.nvmlInit()
        try:
            version = str(pynvml.nvmlSystemGetDriverVersion())
            cuda = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())  # 1000 major + 10 minor
            return {"version": version, "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}"}
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise Unknown(f"no NVIDIA driver: {error}") from None


def _gpu(device: torch.device) -> dict[str, Any]:
    """The GPU that the run uses, as torch counts them (NVML counts those hidden from this process
    too).
    """
    if device.type != "cuda":
        _driver()  # without one, that is the reason
        raise Unknown(f"device={device} uses none")
    if not torch.cuda.is_available():
        _driver()
        raise Unknown("torch finds no usable GPU")
    found = torch.cuda.get_device_properties(device)
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "compute_capability": f"{found.major}.{found.minor}",
        "count": torch.cuda.device_count(),
    }
