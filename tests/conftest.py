"""Shared fixtures; tests check shapes of signatures by jaxtyping and beartype."""

from __future__ import annotations

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # workers share the cores, and threads that wait for each other crawl

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported

from jaxtyping import install_import_hook

from paths import ROOT

_SRC = ROOT / "src"
_MATH = [
    path
    for room in ("dynamics", "models")
    for path in (_SRC / "phasebench" / room).rglob("[a-z]*.py")
]
# not Triton's kernels, which are no Python, nor what runs in every step of an integrator: its
# checks would take as long as all that they check, and the flow's own signature is checked
_UNCHECKED = (
    "kernels",
    "cross_entropy_kernels",
    "koopman_kernels",
    "hamiltonian",
    "integrators",
    "lattice",
    "perceptron",
)
_CHECKED = [
    ".".join(p.relative_to(_SRC).with_suffix("").parts) for p in _MATH if p.stem not in _UNCHECKED
]
install_import_hook(_CHECKED, "beartype.beartype")

import pytest  # noqa: E402

from commands import command as command  # noqa: E402
from phasebench.data import hub  # noqa: E402

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test talks to a hub


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def wikitext_path() -> str:
    """The real WikiText-2 that developers have beside the checkout."""
    path = ROOT.parent / "shared" / "data" / "wikitext"
    if not path.exists():
        pytest.skip("the real WikiText-2 (../shared/data/wikitext) is not on this machine")
    return str(path)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose hub cache is empty and that has no network."""
    monkeypatch.setattr(hub, "cached", lambda *args: None)
    monkeypatch.setattr(hub, "unreachable", lambda *args: "no network (test)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
