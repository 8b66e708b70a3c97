from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phasebench.config import ConfigError, DataConfig
from phasebench.data import hub
from phasebench.data.wikitext import SPLITS, wikitext_rows

HUB_ROWS = ["", " = Title = \n", "", " Some <unk> text , of 3 @.@ 5 words . \n"]


def folder(
    root: Path, rows: list[str], subset: str = "wikitext-2-v1", column: str = "text"
) -> Path:
    (root / subset).mkdir(parents=True)
    for split in SPLITS:
        pq.write_table(pa.table({column: rows}), root / subset / f"{split}-00000-of-00001.parquet")
    return root


def load(path: Path, tmp_path: Path, name: str = "wikitext2") -> dict[str, list[str]]:
    return wikitext_rows(DataConfig(name=name, path=str(path)), name)[0]


def test_hub_rows_and_stripped_rows_give_the_same_text(tmp_path: Path) -> None:
    hub_like = load(folder(tmp_path / "a", HUB_ROWS), tmp_path)
    stripped = load(folder(tmp_path / "b", [row.strip() for row in HUB_ROWS]), tmp_path)
    no_newline = load(
        folder(tmp_path / "c", [row.removesuffix("\n") for row in HUB_ROWS]), tmp_path
    )
    assert hub_like == stripped == no_newline
    assert hub_like == {
        split: ["", "= Title =", "", "Some <unk> text , of 3 @.@ 5 words ."] for split in SPLITS
    }


def test_wikitext103_is_another_folder_and_may_have_several_files(tmp_path: Path) -> None:
    root = folder(tmp_path / "w", ["a"], "wikitext-103-v1")
    pq.write_table(
        pa.table({"text": ["b"]}), root / "wikitext-103-v1" / "train-00001-of-00002.parquet"
    )
    assert load(root, tmp_path, "wikitext103")["train"] == ["a", "b"]
    with pytest.raises(ConfigError, match=r"lacks wikitext-2-v1/train"):
        load(root, tmp_path)


def test_a_folder_that_cannot_be_written_will_do(tmp_path: Path) -> None:
    root = folder(tmp_path / "w", HUB_ROWS)
    before = sorted(root.rglob("*"))
    (root / "wikitext-2-v1").chmod(stat.S_IRUSR | stat.S_IXUSR)
    root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert load(root, tmp_path)["test"]
        assert sorted(root.rglob("*")) == before
    finally:
        root.chmod(stat.S_IRWXU)
        (root / "wikitext-2-v1").chmod(stat.S_IRWXU)


def test_paths_that_do_not_hold_the_data(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("a")
    incomplete = folder(tmp_path / "w", ["a"])
    (incomplete / "wikitext-2-v1" / "test-00000-of-00001.parquet").unlink()
    cases = {
        tmp_path / "nowhere": "does not exist",
        file: "is a file",
        tmp_path: "lacks wikitext-2-v1/train.*",
        incomplete: "lacks wikitext-2-v1/test-[^,]*\n",
    }
    for path, problem in cases.items():
        with pytest.raises(ConfigError, match=rf"^data\.path=.*{problem}") as caught:
            load(path, tmp_path)
        assert "fix:" in str(caught.value)


def test_damaged_files(tmp_path: Path) -> None:
    root = folder(tmp_path / "w", ["a"])
    (root / "wikitext-2-v1" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ConfigError, match=r"^data\.path=.*parquet"):
        load(root, tmp_path)
    with pytest.raises(ConfigError, match=r"^data\.path=.*'text'"):
        load(folder(tmp_path / "v", ["a"], column="other"), tmp_path)


def test_without_a_path_the_hubs_cache_is_read_at_the_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, asked = folder(tmp_path / "w", HUB_ROWS), []
    monkeypatch.setattr(hub, "cached", lambda *args: asked.append(args[:4]) or root)
    config = DataConfig(name="wikitext2")
    rows, source = wikitext_rows(config, "wikitext2")
    assert rows["train"][1] == "= Title ="
    assert asked == [
        (config.hub, "dataset", [f"wikitext-2-v1/{s}-*.parquet" for s in SPLITS], config.revision)
    ]
    assert config.revision in source


@pytest.mark.parametrize(
    "column",
    [pa.array(["a", None, "b"]), pa.array([1, 2]), pa.array([b"a"]), pa.array([["a"], ["b"]])],
    ids=["null", "numbers", "bytes", "lists"],
)
def test_kind_8_rows_that_are_no_strings_are_one_message(tmp_path: Path, column: pa.Array) -> None:
    root = folder(tmp_path / "w", ["a"])
    file = root / "wikitext-2-v1" / "validation-00000-of-00001.parquet"
    pq.write_table(pa.table({"text": column}), file)
    with pytest.raises(ConfigError, match=rf"^data\.path=.*{file.name}.*'text' of strings"):
        load(root, tmp_path)


def test_kind_5_no_part_of_a_path_has_a_meaning(tmp_path: Path) -> None:
    for name in ("a [1]", "b*", "c?{x}", "~", "file:", "d%20#e"):
        root = folder(tmp_path / name / "x", [name])
        assert load(root, tmp_path)["train"] == [name]
    with pytest.raises(ConfigError, match=r"^data\.path=~nosuchuser/x: .*home.*\n  fix: "):
        load(Path("~nosuchuser/x"), tmp_path)


def test_kind_6_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, opened = folder(tmp_path / "w", ["a"]), Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.suffix == ".parquet":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=rf"^data\.path={root}: .*parquet: Permission denied"):
        load(root, tmp_path)
