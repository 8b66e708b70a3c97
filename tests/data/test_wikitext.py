from __future__ import annotations

import stat
from pathlib import Path

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
    monkeypatch.setattr(hub, "cached", lambda *args: asked.append(args) or root)
    config = DataConfig(name="wikitext2")
    rows, source = wikitext_rows(config, "wikitext2")
    assert rows["train"][1] == "= Title ="
    assert asked == [
        (config.hub, "dataset", [f"wikitext-2-v1/{s}-*.parquet" for s in SPLITS], config.revision)
    ]
    assert config.revision in source
