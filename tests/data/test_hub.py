from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from phasebench.config import ConfigError
from phasebench.data import hub

REPO, PATTERNS = "phasebench-tests/absent", ["sub/*.parquet"]


def fetch(timeout_s: float = 5.0) -> Path:
    return hub.fetch(REPO, "dataset", PATTERNS, revision="main", timeout_s=timeout_s)


def answer(monkeypatch: pytest.MonkeyPatch, reply) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda self, *args, **kwargs: reply())


def failing(error: Exception):
    def reply():
        raise error

    return reply


def test_a_hub_that_never_answers_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = threading.Event()  # the hub answers only after that
    answer(monkeypatch, lambda: given_up.wait(60))
    with pytest.raises(hub.HubUnavailable, match=r"did not answer within 0\.2 s"):
        fetch(timeout_s=0.2)
    given_up.set()


def test_the_reason_of_a_failing_network_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, failing(ConnectionError("Name or service\n not known")))
    with pytest.raises(hub.HubUnavailable, match=r"^ConnectionError: Name or service not known$"):
        fetch()


@pytest.mark.parametrize(
    ("error", "key"),
    [(RepositoryNotFoundError, "data.hub"), (RevisionNotFoundError, "data.revision")],
)
def test_what_the_hub_does_not_have_is_an_error_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], key: str
) -> None:
    answer(monkeypatch, failing(error.__new__(error)))
    with pytest.raises(ConfigError) as caught:
        fetch()
    assert caught.value.key == key


def test_a_name_that_is_no_repository() -> None:
    with pytest.raises(ConfigError, match=r"^data\.hub=a/b/c"):
        hub.fetch("a/b/c", "dataset", PATTERNS, revision=None, timeout_s=1.0)


def test_a_complete_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.parquet").write_text("")
    calls = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **k: calls.append(k) or str(tmp_path)
    )
    answer(monkeypatch, failing(AssertionError("asked the network")))
    assert fetch() == tmp_path
    assert calls[0]["local_files_only"]
    assert calls[0]["revision"] == "main"


def test_an_incomplete_cache_is_completed_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot(*args, local_files_only: bool = False, **kwargs) -> str:
        if not local_files_only:
            (tmp_path / "sub").mkdir()
            (tmp_path / "sub" / "a.parquet").write_text("")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    answer(monkeypatch, lambda: SimpleNamespace(sha="1"))
    assert fetch() == tmp_path
    assert (tmp_path / "sub" / "a.parquet").exists()


def test_a_repository_without_the_files_and_a_failing_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, lambda: SimpleNamespace(sha="1"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path))
    with pytest.raises(ConfigError, match=r"^data\.hub=.*has no sub/\*\.parquet"):
        fetch()

    def breaking(*args, local_files_only: bool = False, **kwargs) -> str:
        raise (
            LocalEntryNotFoundError("absent")
            if local_files_only
            else TimeoutError("read timed out")
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", breaking)
    with pytest.raises(hub.HubUnavailable, match="read timed out"):
        fetch()
