"""WikiText-2 and WikiText-103 (Merity et al. 2016, "Pointer Sentinel Mixture Models").

The text is tokenised already, and rare words are ``<unk>``.
"""

from __future__ import annotations

from pathlib import Path

from phasebench.config import ConfigError, DataConfig
from phasebench.config.files import os_errors, user_path
from phasebench.data import hub

SUBSETS = {"wikitext2": "wikitext-2-v1", "wikitext103": "wikitext-103-v1"}
SPLITS = ("train", "validation", "test")


def wikitext_rows(config: DataConfig, name: str) -> tuple[dict[str, list[str]], str]:
    """Read every split's rows of ``name`` (wikitext2, wikitext103); say where they are from.

    From the folder ``data.path`` if given, else from the hub's local cache, else from the hub.
    A row is a line of the original text, without the blanks at its ends; a blank line is the empty
    string. Raises `ConfigError` for files that do not hold the data, `hub.HubUnavailable` where no
    path is given and the data cannot be had.
    """
    subset = SUBSETS[name]
    patterns = [f"{subset}/{split}-*.parquet" for split in SPLITS]
    if config.path is not None:
        root, shown = user_path(config.path, "data.path"), config.path
        _check_folder(root, shown, patterns)
        source = f"{subset} from the folder {shown}"
    else:
        limits = {"revision": config.revision, "timeout_s": config.timeout_s}
        root = hub.fetch(config.hub, "dataset", patterns, **limits)
        source = f"{subset} from the hub's {config.hub} at revision {config.revision}"
        shown = str(root / subset)
    rows = {
        split: [row for file in sorted(root.glob(pattern)) for row in _rows(file, shown)]
        for split, pattern in zip(SPLITS, patterns, strict=True)
    }
    return rows, source


def how_to_get(config: DataConfig, name: str) -> str:
    """Say how to have the data where there is no network."""
    return (
        f"data.path=FOLDER laid out like the hub's {config.hub} "
        f"(FOLDER/{SUBSETS[name]}/train-*.parquet, ...); or run once with a network, "
        "which fills the local cache; or data=synthetic, which needs neither"
    )


def _check_folder(root: Path, path: str, patterns: list[str]) -> None:
    layout = f"a folder that has {patterns[0]}, validation-*.parquet and test-*.parquet"
    if not root.exists():
        raise ConfigError("data.path", path, "does not exist", f"data.path={layout}")
    if not root.is_dir():
        fix = "data=text data.path=FILE for a text file"
        raise ConfigError("data.path", path, f"is a file; expected {layout}", fix)
    if missing := [pattern for pattern in patterns if not any(root.glob(pattern))]:
        raise ConfigError("data.path", path, f"lacks {', '.join(missing)}", f"data.path={layout}")


def _rows(file: Path, path: str) -> list[str]:
    # slow to import
    from datasets import Dataset
    from pyarrow import parquet

    fix = "get the files anew"
    with os_errors("data.path", path, fix), file.open("rb") as opened:
        try:
            # from the open file, so that no part of its name has a meaning to a library
            rows = Dataset(parquet.read_table(opened, columns=["text"]))["text"]
            # the hub's rows are " a b \n", others' "a b": the same stream for both
            return [str.strip(row) for row in rows]  # a TypeError for what is no text
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            problem = f"{file.name} cannot be read as parquet with a column 'text' of strings"
            reason = f"{type(error).__name__}: {error}"
            raise ConfigError("data.path", path, f"{problem}: {reason}", fix) from error
