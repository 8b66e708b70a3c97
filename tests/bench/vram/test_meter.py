"""What a step's parts are counted as; what NVML says of this process, or why nothing."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pynvml
import pytest
import torch

from phasebench.bench.vram.gpus import GPUS
from phasebench.bench.vram.meter import measure_step, process_bytes
from phasebench.bench.vram.predict import predicting

DEVICE = torch.device("cuda:0")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A driver that lists the processes in `.processes`."""
    driver = SimpleNamespace(processes=[], closed=0)

    def by_uuid(uuid: str) -> str:
        assert uuid == "GPU-1234"
        return "handle"

    def close() -> None:
        driver.closed += 1

    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234")
    )
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", close)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: driver.processes
    )
    return driver


def process(pid: int, used: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_own_process_is_told_from_others(nvml: SimpleNamespace) -> None:
    nvml.processes = [process(os.getpid() + 1, 7), process(os.getpid(), 600)]
    assert process_bytes(DEVICE) == (600, None)
    assert nvml.closed == 1


@pytest.mark.parametrize(
    ("own", "reason"), [(False, "does not list"), (True, "without its memory")]
)
def test_what_nvml_does_not_say_has_a_reason(nvml: SimpleNamespace, own: bool, reason: str) -> None:
    nvml.processes = [process(os.getpid(), None)] if own else []
    told = process_bytes(DEVICE)
    assert told[0] is None
    assert reason in str(told[1])


def test_missing_nvml_has_a_reason(nvml: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    told = process_bytes(DEVICE)
    assert told[0] is None
    assert str(told[1]).startswith("NVML: ")


def test_kind_14_gradients_are_counted_as_parameters_are() -> None:
    """Sizes of tensors: blocks of a GPU's allocator are multiples of 512 bytes."""
    with predicting(GPUS["h100"]) as tracker:
        model = torch.nn.Linear(3, 5)
        step = measure_step(model, lambda: model(torch.ones(2, 3)).sum(), tracker)
    assert step.gradients == step.parameters == 4 * (3 * 5 + 5)
