"""A text file of the user: UTF-8, one row a line, cut into three contiguous parts."""

from __future__ import annotations

import itertools
import re

from phasebench.config import ConfigError, DataConfig
from phasebench.config.files import os_errors, user_path

FIX = "data.path=FILE, a UTF-8 text file with one row a line"


def text_rows(config: DataConfig) -> tuple[dict[str, list[str]], str]:
    """Read the train, validation and test rows of the file ``data.path``; say where they are from.

    The last ``data.held_out`` of the lines is the test split and as many before it are the
    validation split. A file with too few lines for that (or with only blank ones in a part) is cut
    between words instead. Raises `ConfigError` on ``data.path`` for a file that is missing, empty,
    not UTF-8 or shorter than three words.
    """
    text = _read(config.path)
    lines = [0, *(match.end() for match in re.finditer(r"\n", text))]
    parts, unit = _parts(text, lines, config.held_out), "lines"
    if config.held_out * len(lines) < 1 or not all(part.strip() for part in parts):
        words = [match.start() for match in re.finditer(r"\S+", text)]
        parts, unit = _parts(text, words, config.held_out), "words"
    if not parts[0].strip():
        problem = "has fewer than three words: too few for three splits"
        raise ConfigError("data.path", config.path, problem, FIX)
    names = ("train", "validation", "test")
    rows = {n: part.rstrip("\n").split("\n") for n, part in zip(names, parts, strict=True)}
    source = (
        f"the text file {config.path}, cut between {unit}, "
        f"{config.held_out:g} of them in each held-out split"
    )
    return rows, source


def _parts(text: str, starts: list[int], held_out: float) -> list[str]:
    """Cut the text into three where units start; the first is empty if there are too few units."""
    held = max(1, int(held_out * len(starts)))
    train = max(0, len(starts) - 2 * held)
    cuts = [0, starts[train], starts[min(train + held, len(starts) - 1)], len(text)]
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


def _read(path: str | None) -> str:
    if path is None:
        raise ConfigError("data.path", "null", "data=text needs a file", FIX)
    file = user_path(path, "data.path")
    if not file.is_file():
        problem = "is a folder, not a file" if file.is_dir() else "does not exist"
        raise ConfigError("data.path", path, problem, FIX)
    with os_errors("data.path", path, FIX):
        content = file.read_bytes()
    try:
        # as universal newlines do: \r\n is one newline
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}"
        fix = "convert it, e.g. iconv -f latin1 -t utf-8"
        raise ConfigError("data.path", path, problem, fix) from error
    if not text.strip():
        raise ConfigError("data.path", path, "is empty", FIX)
    return text
