from __future__ import annotations

from pathlib import Path

import pytest

from phasebench.config import ConfigError, DataConfig
from phasebench.data.text import text_rows


def config(path: Path | str | None, held_out: float = 0.1) -> DataConfig:
    return DataConfig(name="text", path=None if path is None else str(path), held_out=held_out)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_splits_are_contiguous_lines(tmp_path: Path) -> None:
    lines = [f"line {i}" for i in range(40)]
    rows, source = text_rows(config(written(tmp_path, "\n".join(lines) + "\n")))
    assert rows == {"train": lines[:32], "validation": lines[32:36], "test": lines[36:]}
    assert "lines" in source


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_the_rows(tmp_path: Path) -> None:
    rows, _ = text_rows(config(written(tmp_path, b"\xef\xbb\xbf" + b"a b\r\n" * 10), held_out=0.4))
    assert rows == {"train": ["a b"] * 2, "validation": ["a b"] * 4, "test": ["a b"] * 4}


@pytest.mark.parametrize("newline", [" ", "\n\n"])
def test_few_lines_are_cut_between_words(tmp_path: Path, newline: str) -> None:
    words = [f"w{i}" for i in range(10)]
    rows, source = text_rows(
        config(written(tmp_path, newline.join([" ".join(words[:5]), " ".join(words[5:])])))
    )
    parts = {name: " ".join(split).split() for name, split in rows.items()}
    assert parts == {"train": words[:8], "validation": words[8:9], "test": words[9:]}
    assert "words" in source


def test_blank_held_out_lines_are_not_a_split(tmp_path: Path) -> None:
    rows, source = text_rows(config(written(tmp_path, "a b c d e f\n" * 5 + "\n" * 50 + "z")))
    assert "words" in source
    assert all(any(row.split() for row in split) for split in rows.values())


@pytest.mark.parametrize("held_out", [0.01, 0.1, 0.25, 0.4])
@pytest.mark.parametrize("n", [3, 4, 5, 7, 30])
def test_any_three_words_give_three_splits_without_loss(
    tmp_path: Path, n: int, held_out: float
) -> None:
    words = [f"w{i}" for i in range(n)]
    rows, _ = text_rows(config(written(tmp_path, "\n".join(words)), held_out))
    assert all(rows.values())
    assert [word for split in rows.values() for row in split for word in row.split()] == words


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("two words", "fewer than three words"),
        (b"caf\xe9 au lait", "not UTF-8.*0xe9.*3"),
    ],
)
def test_an_unusable_file_is_refused(tmp_path: Path, content: str | bytes, problem: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError, match=problem) as caught:
        text_rows(config(path))
    assert (caught.value.key, caught.value.value) == ("data.path", str(path))
    assert "fix:" in str(caught.value)


def test_no_file_is_refused(tmp_path: Path) -> None:
    for path, problem in (
        (None, "needs a file"),
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(ConfigError, match=rf"^data\.path=.*{problem}"):
            text_rows(config(path))


def test_kind_5_no_part_of_a_path_has_a_meaning(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*{x}.txt"
    path.write_text("one two three\n" * 20)
    assert text_rows(config(path))[0]["train"][0] == "one two three"
    with pytest.raises(ConfigError, match=r"^data\.path=~nosuchuser/x: .*home.*\n  fix: "):
        text_rows(config("~nosuchuser/x"))
