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
    if config.path is not None:
        folder = _checked(user_path(config.path, "data.path"), config.path, subset)
        return _read(folder, config.path), f"{subset} from the folder {config.path}"
    root = hub.fetch(
        config.hub,
        "dataset",
        [f"{subset}/{split}-*.parquet" for split in SPLITS],
        revision=config.revision,
        timeout_s=config.timeout_s,
    )
    source = f"{subset} from the hub's {config.hub} at revision {config.revision}"
    return _read(root / subset, str(root)), source


def how_to_get(config: DataConfig, name: str) -> str:
    """Say how to have the data where there is no network."""
    return (
        f"data.path=FOLDER laid out like the hub's {config.hub} "
        f"(FOLDER/{SUBSETS[name]}/train-*.parquet, ...); or run once with a network, "
        "which fills the local cache; or data=synthetic, which needs neither"
    )


def _checked(root: Path, path: str, subset: str) -> Path:
    layout = f"a folder that has {subset}/train-*.parquet, validation-*.parquet and test-*.parquet"
    if not root.exists():
        raise ConfigError("data.path", path, "does not exist", f"data.path={layout}")
    if not root.is_dir():
        fix = "data=text data.path=FILE for a text file"
        raise ConfigError("data.path", path, f"is a file; expected {layout}", fix)
    wanted = [f"{split}-*.parquet" for split in SPLITS]
    missing = [
        f"{subset}/{pattern}" for pattern in wanted if not any((root / subset).glob(pattern))
    ]
    if missing:
        raise ConfigError("data.path", path, f"lacks {', '.join(missing)}", f"data.path={layout}")
    return root / subset


def _read(folder: Path, path: str) -> dict[str, list[str]]:
    return {
        split: [
            row for file in sorted(folder.glob(f"{split}-*.parquet")) for row in _rows(file, path)
        ]
        for split in SPLITS
    }


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
