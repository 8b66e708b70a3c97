"""WikiText-2 and WikiText-103 (Merity et al. 2016, "Pointer Sentinel Mixture Models"), tokenised, with ``<unk>``."""

from __future__ import annotations

from pathlib import Path

from phasebench.config import ConfigError, DataConfig
from phasebench.data import hub

SUBSETS = {"wikitext2": "wikitext-2-v1", "wikitext103": "wikitext-103-v1"}
SPLITS = ("train", "validation", "test")


def wikitext_rows(
    config: DataConfig, name: str, cache_dir: Path
) -> tuple[dict[str, list[str]], str]:
    """Rows of every split of ``name`` (wikitext2, wikitext103), and a sentence on where they come from.

    From the folder ``data.path`` if given, else from the hub's local cache, else from the hub. A row is a line of the
    original text without its newline and without the blank at either end of it; a blank line is the empty string.
    ``cache_dir`` takes the lock files of ``datasets``. Raises `ConfigError` for a path that does not hold the data,
    `hub.HubUnavailable` where no path is given and the data cannot be had.
    """
    subset = SUBSETS[name]
    if config.path is not None:
        folder = _checked(Path(config.path).expanduser(), config.path, subset)
        return _read(folder, config.path, cache_dir), f"{subset} from the folder {config.path}"
    root = hub.fetch(
        config.hub,
        "dataset",
        [f"{subset}/{split}-*.parquet" for split in SPLITS],
        revision=config.revision,
        timeout_s=config.timeout_s,
    )
    source = f"{subset} from the hub's {config.hub} at revision {config.revision}"
    return _read(root / subset, None, cache_dir), source


def how_to_get(config: DataConfig, name: str) -> str:
    """What to do for having the data where there is no network."""
    return (
        f"data.path=FOLDER laid out like the hub's {config.hub} (FOLDER/{SUBSETS[name]}/train-*.parquet, ...); "
        "or run once with a network, which fills the local cache; or data=synthetic, which needs neither"
    )


def _checked(root: Path, path: str, subset: str) -> Path:
    layout = f"a folder that has {subset}/train-*.parquet, validation-*.parquet and test-*.parquet"
    if not root.exists():
        raise ConfigError("data.path", path, "does not exist", f"data.path={layout}")
    if not root.is_dir():
        raise ConfigError(
            "data.path",
            path,
            f"is a file; expected {layout}",
            "data=text data.path=FILE for a text file",
        )
    missing = [
        f"{subset}/{split}-*.parquet"
        for split in SPLITS
        if not any((root / subset).glob(f"{split}-*.parquet"))
    ]
    if missing:
        raise ConfigError("data.path", path, f"lacks {', '.join(missing)}", f"data.path={layout}")
    return root / subset


def _read(folder: Path, path: str | None, cache_dir: Path) -> dict[str, list[str]]:
    import datasets  # slow to import
    from datasets import config as settings

    datasets.disable_progress_bars()
    settings.HF_UPDATE_DOWNLOAD_COUNTS = False  # else a request goes out, also for a local folder
    files = {
        split: sorted(str(file) for file in folder.glob(f"{split}-*.parquet")) for split in SPLITS
    }
    try:
        # streaming leaves the text where it is: no copy of it in another cache, and a read-only folder will do
        locks = str(cache_dir / "datasets")
        streams = datasets.load_dataset(
            "parquet", data_files=files, streaming=True, cache_dir=locks
        )
        return {split: _rows(streams[split]) for split in SPLITS}
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are subclasses of these
        raise ConfigError(
            "data.path",
            path or folder,
            f"cannot be read as parquet with a column 'text': {type(error).__name__}: {error}",
            "get the files anew",
        ) from error


def _rows(stream) -> list[str]:
    rows = [row for batch in stream.iter(batch_size=8192) for row in batch["text"]]
    return [
        row.strip() for row in rows
    ]  # the hub's rows are " a b \n", others' "a b": the same stream for both
