"""Files of a HuggingFace hub repository: from its local cache, else from the network.

A missing network is given up on in bounded time.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from phasebench.config import ConfigError, DataConfig
from phasebench.config.files import user_path

log = logging.getLogger(__name__)


class HubUnavailable(RuntimeError):
    """The files are not in the local cache and the hub cannot be reached; the message says why."""


def model_folder(name: str, key: str, patterns: list[str]) -> Path:
    """Return the folder of that name, or of a model of the hub with that id; it has those files.

    Raises `ConfigError` for `key` where there is neither, or a file is missing.
    """
    folder, fix = user_path(name, key), "a folder that save_pretrained wrote"
    if not folder.exists():
        limits = {"revision": None, "timeout_s": DataConfig().timeout_s}
        try:
            return fetch(name, "model", patterns, **limits, key=key)
        except HubUnavailable as error:
            problem = f"is no folder, and cannot be had from the hub: {error}"
            raise ConfigError(key, name, problem, fix) from error
    if missing := [pattern for pattern in patterns if not any(folder.glob(pattern))]:
        raise ConfigError(key, name, f"has no {', '.join(missing)}", fix)
    return folder


def fetch(
    repo: str,
    kind: str,
    patterns: list[str],
    *,
    revision: str | None,
    timeout_s: float,
    key: str = "data.hub",
) -> Path:
    """Return the local folder with the files of ``repo`` (a dataset or model) that match.

    The cache is looked at first, without a network; each pattern must match a file. That the hub
    is asked is logged before it is. Raises `HubUnavailable` within about ``timeout_s`` seconds
    where there is no network, `ConfigError` for a repository or revision that the hub lacks, with
    the key that names it.
    """
    import huggingface_hub
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.utils import disable_progress_bars

    folder = cached(repo, kind, patterns, revision, key)
    if folder is not None:
        return folder
    log.info("%s is not in the local cache: asking the hub, %s", repo, ENDPOINT)
    reason = unreachable(repo, kind, revision, timeout_s, key)
    if reason is not None:
        raise HubUnavailable(reason)
    disable_progress_bars()
    try:
        folder = huggingface_hub.snapshot_download(
            repo, repo_type=kind, revision=revision, allow_patterns=patterns
        )
    except Exception as error:  # a network that fails half-way; see `unreachable`
        raise HubUnavailable(_reason(error, repo, revision, key)) from error
    if missing := [pattern for pattern in patterns if not any(Path(folder).glob(pattern))]:
        problem = f"has no {', '.join(missing)} at revision {revision}"
        raise ConfigError(key, repo, problem, f"{key}=REPOSITORY with those files")
    return Path(folder)


def cached(
    repo: str, kind: str, patterns: list[str], revision: str | None, key: str = "data.hub"
) -> Path | None:
    """Return the folder of the hub's local cache with a file for every pattern, or None."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = huggingface_hub.snapshot_download(
            repo, repo_type=kind, revision=revision, allow_patterns=patterns, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        problem = f"is no name of a hub repository: {error}"
        raise ConfigError(key, repo, problem, "owner/name") from error
    complete = all(any(Path(folder).glob(pattern)) for pattern in patterns)
    return Path(folder) if complete else None


def unreachable(
    repo: str, kind: str, revision: str | None, timeout_s: float, key: str = "data.hub"
) -> str | None:
    """Say why the repository cannot be had from the hub, or None if it can, in ``timeout_s`` s.

    Raises `ConfigError` if the hub answers that it has no such repository or revision.
    """
    import huggingface_hub

    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            huggingface_hub.HfApi().repo_info(
                repo, repo_type=kind, revision=revision, timeout=timeout_s
            )
            outcome.append(None)
        except Exception as error:  # each version of the client has its own for a failing network
            outcome.append(error)

    # in a daemon thread: to resolve a host name can hang for longer than any timeout of the client
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not outcome:
        return f"the hub did not answer within {timeout_s:g} s"
    return None if outcome[0] is None else _reason(outcome[0], repo, revision, key)


def _reason(error: Exception, repo: str, revision: str | None, key: str) -> str:
    """Put an error of the client in one line.

    Raises `ConfigError` if it says that the hub has no such repository or revision.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        problem = f"the hub's {repo} has no such revision"
        fix = "data.revision=main, or a commit of that repository"
        raise ConfigError("data.revision", revision, problem, fix) from error
    if isinstance(error, RepositoryNotFoundError):
        problem = "the hub has no such repository, or it is private"
        raise ConfigError(key, repo, problem, f"{key}=owner/name") from error
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
