from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

import phasebench
from phasebench.bench import environment as module
from phasebench.bench.environment import environment
from phasebench.results.jsonfile import plain


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: calls.append("init"))
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.1")
    monkeypatch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion_v2", lambda: 13020)
    return calls


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [s for key, item in value.items() for s in [key, *strings(item)]]
    return [value] if isinstance(value, str) else []


@pytest.mark.usefixtures("no_driver")
def test_without_a_gpu() -> None:
    found = environment("cpu")
    assert found["phasebench"] == phasebench.__version__
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__
    assert found["torch_threads"] == torch.get_num_threads()
    assert 1 <= found["cpu_cores_usable"] <= found["cpu_cores"]
    assert found["ram_bytes"] > 2**28
    assert found["gpu"] is None
    assert found["driver"] is None
    assert found["null_reasons"]["gpu"].startswith("no NVIDIA driver: ")
    assert json.loads(json.dumps(plain(found, "", {}))) == found


def test_every_null_has_a_reason_and_every_reason_a_null() -> None:
    found = environment("cpu")
    nulls = {key for key, value in found.items() if value is None}
    nulls |= {f"packages.{key}" for key, value in found["packages"].items() if value is None}
    assert set(found["null_reasons"]) == nulls


def test_neither_host_nor_folders_are_recorded() -> None:
    texts = strings(environment("cpu"))
    assert not [text for text in texts if "/" in text and Path(text.split()[0]).is_absolute()]
    assert str(Path.cwd()) not in " ".join(texts)
    if len(platform.node()) > 3:
        assert platform.node() not in " ".join(texts)


def test_nvml_is_shut_down(driver: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment("cpu")
    assert found["driver"] == {"version": "580.1", "cuda": "13.2"}
    assert found["null_reasons"]["gpu"] == "device=cpu uses none"
    assert driver == ["init", "shutdown"] * 2

    def refuse() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)

    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", refuse)
    assert environment("cpu")["null_reasons"]["driver"].startswith("no NVIDIA driver: ")
    assert driver == ["init", "shutdown"] * 4


@pytest.mark.usefixtures("driver")
def test_the_gpu_is_the_one_that_torch_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="H100", total_memory=85 * 10**9, major=9, minor=0)
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: asked.append(device) or properties
    )
    found = environment("cuda:1")["gpu"]
    assert found == {
        "name": "H100",
        "memory_bytes": 85 * 10**9,
        "compute_capability": "9.0",
        "count": 2,
    }
    assert asked == [torch.device("cuda:1")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    found = environment("cuda")
    assert found["gpu"]["name"] == torch.cuda.get_device_name()
    assert found["gpu"]["memory_bytes"] > 2**30
    assert found["torch_cuda"] == torch.version.cuda
    assert found["driver"]["version"]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose commit holds the package's only source file."""
    for name in (
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
    ):  # set where the tests run in a git hook
        monkeypatch.delenv(name, raising=False)
    source = tmp_path / "package" / "__init__.py"
    source.parent.mkdir()
    source.write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "a")
    monkeypatch.setattr(phasebench, "__file__", str(source))
    return tmp_path


def test_commit_and_dirty_flag(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert environment("cpu")["git"] == {"commit": commit, "dirty": False}
    (checkout / "package" / "__init__.py").write_text("changed")
    assert environment("cpu")["git"] == {"commit": commit, "dirty": True}


def test_a_package_below_another_checkout_is_not_part_of_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout / "venv" / "__init__.py"
    installed.parent.mkdir()
    installed.write_text("")
    monkeypatch.setattr(phasebench, "__file__", str(installed))
    found = environment("cpu")
    assert found["git"] is None
    assert "not in a git checkout" in found["null_reasons"]["git"]


def test_outside_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(phasebench, "__file__", str(tmp_path / "__init__.py"))
    found = environment("cpu")
    assert found["git"] is None
    assert "not in a git checkout" in found["null_reasons"]["git"]
    assert str(tmp_path) not in found["null_reasons"]["git"]


def test_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = environment("cpu")
    assert found["git"] is None
    assert found["null_reasons"]["git"] == "git is not installed"


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package-here",))
    found = environment("cpu")
    assert found["packages"] == {"no-such-package-here": None}
    assert found["null_reasons"]["packages.no-such-package-here"] == "not installed"


def test_a_copy_that_is_no_checkout_can_be_told_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHASEBENCH_COMMIT", "0123abc")
    assert environment("cpu")["git"] == {
        "commit": "0123abc",
        "dirty": False,
        "told_by": "PHASEBENCH_COMMIT",
    }
