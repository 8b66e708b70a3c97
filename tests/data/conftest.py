"""What the data tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from phasebench.data import hub


@pytest.fixture
def wikitext_path() -> str:
    """The real WikiText-2 beside the checkout; the test skips where it is absent."""
    path = Path(__file__).resolve().parents[3] / "shared" / "data" / "wikitext"
    if not (path / "wikitext-2-v1").is_dir():
        pytest.skip("needs ../shared/data/wikitext, the real WikiText-2")
    return str(path)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose hub cache is empty and that has no network."""
    monkeypatch.setattr(hub, "cached", lambda *args: None)
    monkeypatch.setattr(hub, "unreachable", lambda *args: "no network (test)")
