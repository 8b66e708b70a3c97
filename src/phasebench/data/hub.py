"""Files of a HuggingFace hub repository: from its local cache, else from the network, giving up in bounded time."""

from __future__ import annotations

import threading
from pathlib import Path

from phasebench.config import ConfigError


class HubUnavailable(RuntimeError):
    """The files are not in the local cache and the hub cannot be reached; the message says why."""


def fetch(
    repo: str, kind: str, patterns: list[str], *, revision: str | None, timeout_s: float
) -> Path:
    """The local folder that holds the files of ``repo`` (``kind``: dataset or model) that match ``patterns``.

    The cache is looked at first, without a network; each pattern must match a file. Raises `HubUnavailable` within
    about ``timeout_s`` seconds where there is no network, `ConfigError` for a repository or revision that the hub
    does not have.
    """
    folder = cached(repo, kind, patterns, revision)
    if folder is not None:
        return folder
    reason = unreachable(repo, kind, revision, timeout_s)
    if reason is not None:
        raise HubUnavailable(reason)
    return _download(repo, kind, patterns, revision)


def cached(repo: str, kind: str, patterns: list[str], revision: str | None) -> Path | None:
    """The folder of the hub's local cache with a file for every pattern, or None."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            repo, repo_type=kind, revision=revision, allow_patterns=patterns, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ConfigError(
            "data.hub", repo, f"is no name of a hub repository: {error}", "owner/name"
        ) from error
    complete = all(any(Path(folder).glob(pattern)) for pattern in patterns)
    return Path(folder) if complete else None


def unreachable(repo: str, kind: str, revision: str | None, timeout_s: float) -> str | None:
    """Why the repository cannot be had from the hub, or None if it can; answers within ``timeout_s`` seconds.

    Asks in a daemon thread, because resolving a host name can hang for longer than any timeout of the HTTP client.
    Raises `ConfigError` if the hub answers that it has no such repository or revision.
    """
    outcome: list[Exception | None] = []
    thread = threading.Thread(
        target=_ask, args=(outcome, repo, kind, revision, timeout_s), daemon=True
    )
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        return f"the hub did not answer within {timeout_s:g} s"
    error = outcome[0]
    if error is None:
        return None
    _raise_if_absent(error, repo, revision)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _ask(
    outcome: list[Exception | None], repo: str, kind: str, revision: str | None, timeout_s: float
) -> None:
    try:
        import huggingface_hub

        huggingface_hub.HfApi().repo_info(
            repo, repo_type=kind, revision=revision, timeout=timeout_s
        )
    except (
        Exception
    ) as error:  # every version of the client has its own classes for a failing network
        outcome.append(error)
    else:
        outcome.append(None)


def _download(repo: str, kind: str, patterns: list[str], revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        folder = huggingface_hub.snapshot_download(
            repo, repo_type=kind, revision=revision, allow_patterns=patterns
        )
    except Exception as error:  # as in _ask: a network that fails half-way
        _raise_if_absent(error, repo, revision)
        raise HubUnavailable(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    missing = [pattern for pattern in patterns if not any(Path(folder).glob(pattern))]
    if missing:
        raise ConfigError(
            "data.hub",
            repo,
            f"has no {', '.join(missing)} at revision {revision}",
            "data.hub=Salesforce/wikitext, or another repository with its layout",
        )
    return Path(folder)


def _raise_if_absent(error: Exception, repo: str, revision: str | None) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        raise ConfigError(
            "data.revision",
            revision,
            f"the hub's {repo} has no such revision",
            "data.revision=main, or a commit of that repository",
        ) from error
    if isinstance(error, RepositoryNotFoundError):
        raise ConfigError(
            "data.hub",
            repo,
            "the hub has no such repository, or it is private",
            "data.hub=Salesforce/wikitext",
        ) from error
