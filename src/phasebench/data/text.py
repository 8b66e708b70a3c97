"""A text file of the user's: UTF-8, one row a line, cut into three contiguous parts."""

from __future__ import annotations

import re
from pathlib import Path

from phasebench.config import ConfigError, DataConfig

FIX = "data.path=FILE, a UTF-8 text file with one row a line"


def text_rows(config: DataConfig) -> tuple[dict[str, list[str]], str]:
    """Rows of the train, validation and test parts of the file ``data.path``, and a sentence on where they come from.

    The last ``data.held_out`` of the lines is the test split and as many before it are the validation split; a file
    with too few lines for that (or with blank ones only in a part) is cut between words instead.
    Raises `ConfigError` on ``data.path`` for a file that is missing, empty, not UTF-8 or shorter than three words.
    """
    text = _read(config.path)
    lines = [0, *(m.end() for m in re.finditer(r"\n", text))]
    cuts, unit = _cuts(lines, config.held_out), "lines"
    if (
        cuts is None
        or config.held_out * len(lines) < 1
        or any(not part.strip() for part in _parts(text, cuts))
    ):
        words = [m.start() for m in re.finditer(r"\S+", text)]
        cuts, unit = _cuts(words, config.held_out), "words"
    if cuts is None:
        raise ConfigError(
            "data.path", config.path, "has fewer than three words: too few for three splits", FIX
        )
    names = ("train", "validation", "test")
    rows = {
        name: part.rstrip("\n").split("\n")
        for name, part in zip(names, _parts(text, cuts), strict=True)
    }
    source = f"the text file {config.path}, cut between {unit}, {config.held_out:g} of them in each held-out split"
    return rows, source


def _cuts(starts: list[int], held_out: float) -> tuple[int, int] | None:
    """Offsets at which validation and test begin, among the offsets where units start; None if too few units."""
    held = max(1, int(held_out * len(starts)))
    train = len(starts) - 2 * held
    return (starts[train], starts[train + held]) if train > 0 else None


def _parts(text: str, cuts: tuple[int, int]) -> list[str]:
    return [text[: cuts[0]], text[cuts[0] : cuts[1]], text[cuts[1] :]]


def _read(path: str | None) -> str:
    if path is None:
        raise ConfigError("data.path", "null", "data=text needs a file", FIX)
    file = Path(path).expanduser()
    if not file.exists():
        raise ConfigError("data.path", path, "does not exist", FIX)
    if not file.is_file():
        raise ConfigError("data.path", path, "is a folder, not a file", FIX)
    try:
        text = file.read_text(encoding="utf-8-sig").strip(
            "\n"
        )  # universal newlines: \r\n is one newline
    except UnicodeDecodeError as error:
        raise ConfigError(
            "data.path",
            path,
            f"is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}",
            "convert it, e.g. iconv -f latin1 -t utf-8",
        ) from error
    except OSError as error:
        raise ConfigError("data.path", path, f"cannot be read: {error.strerror}", FIX) from error
    if not text.strip():
        raise ConfigError("data.path", path, "is empty", FIX)
    return text
