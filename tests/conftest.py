"""Shared fixtures; shapes of public signatures are checked by jaxtyping and beartype in every test."""

from __future__ import annotations

import os
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook(["phasebench.nn", "phasebench.dynamics", "phasebench.models"], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test talks to a hub


@pytest.fixture(autouse=True)
def _reproducible() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def wikitext_path() -> Path:
    """The real WikiText-2 that developers have beside the checkout."""
    path = ROOT.parent / "shared" / "data" / "wikitext"
    if not path.exists():
        pytest.skip("the real WikiText-2 (../shared/data/wikitext) is not on this machine")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
