from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from phasebench.config import ConfigError, DataConfig
from phasebench.data import tokenizer as module
from phasebench.data.tokenizer import EOS, build_tokenizer, train_bpe

TRAIN = ["the cat sat on the mat .", "", " naïve  日本 \tthe end"] * 4
ROWS = {"train": TRAIN, "validation": ["the mat ."], "test": ["the cat sat ."]}
CONFIG = DataConfig(vocab_size=300)


def decoded(json: str, ids: list[int]) -> str:
    return Tokenizer.from_str(json).decode(ids, skip_special_tokens=False)


def test_bpe_round_trip(tmp_path: Path) -> None:
    bpe = build_tokenizer("bpe", ROWS, CONFIG, tmp_path)
    ids = bpe.encode([*TRAIN, "unseen: ß 🙂"]).tolist()
    assert decoded(bpe.json, ids) == "".join(row + EOS for row in [*TRAIN, "unseen: ß 🙂"])
    assert ids.count(bpe.eos) == len(TRAIN) + 1
    assert 257 < bpe.vocab_size <= 300
    assert max(ids) < bpe.vocab_size


def test_bpe_has_its_true_size_if_the_text_supports_fewer_merges(tmp_path: Path) -> None:
    bpe = build_tokenizer("bpe", ROWS, DataConfig(vocab_size=50257), tmp_path)
    assert 257 < bpe.vocab_size < 400
    assert bpe.vocab_size == Tokenizer.from_str(bpe.json).get_vocab_size()


def test_bpe_training_is_deterministic() -> None:
    rows = [
        f"{'ab' * (i % 7)} {'ba' * (i % 5)} {i * i} x{i}" for i in range(400)
    ]  # many ties between pairs
    assert train_bpe(rows, 500).to_str() == train_bpe(list(rows), 500).to_str()


def test_eos_within_a_text_is_text_for_bpe(tmp_path: Path) -> None:
    bpe = build_tokenizer("bpe", ROWS, CONFIG, tmp_path)
    assert bpe.encode(["a <eos> b"]).tolist().count(bpe.eos) == 1


def test_bpe_is_cached_by_text_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_tokenizer("bpe", ROWS, CONFIG, tmp_path)
    trainings = []
    monkeypatch.setattr(
        module, "train_bpe", lambda rows, size: trainings.append(size) or train_bpe(rows, size)
    )
    assert build_tokenizer("bpe", ROWS, CONFIG, tmp_path).json == first.json
    assert not trainings
    build_tokenizer("bpe", ROWS, DataConfig(vocab_size=290), tmp_path)
    build_tokenizer("bpe", {**ROWS, "train": [*TRAIN, "more"]}, CONFIG, tmp_path)
    assert trainings == [290, 300]
    assert len(list((tmp_path / "tokenizers").glob("*.json"))) == 3
    assert not list((tmp_path / "tokenizers").glob("*.tmp"))


@pytest.mark.parametrize("damage", ["", '{"version": "1.0", "trunc', "{}", "other"])
def test_a_damaged_cache_file_is_said_and_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    first = build_tokenizer("bpe", ROWS, CONFIG, tmp_path)
    (path,) = (tmp_path / "tokenizers").glob("*.json")
    path.write_text(
        train_bpe([f"{i} {i * i}" for i in range(500)], 400).to_str()
        if damage == "other"
        else damage
    )
    with caplog.at_level(logging.WARNING):
        assert build_tokenizer("bpe", ROWS, CONFIG, tmp_path).json == first.json
    assert path.name in caplog.text
    assert path.read_text() == first.json


def test_a_cache_that_cannot_be_written_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^cache_dir="):
        build_tokenizer("bpe", ROWS, CONFIG, tmp_path / "file")


def test_kind_6_a_full_cache_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_tokenizer("bpe", ROWS, CONFIG, tmp_path)

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(module, "FileLock", refuse)
    assert build_tokenizer("bpe", ROWS, CONFIG, tmp_path).json == first.json
    with pytest.raises(ConfigError, match=r"^cache_dir=.*\.json\.lock: Permission denied"):
        build_tokenizer("bpe", ROWS, DataConfig(vocab_size=290), tmp_path)


def test_wordlevel_is_sorted_by_frequency_then_alphabet(tmp_path: Path) -> None:
    words = build_tokenizer("wordlevel", {"train": ["b a a", "c b a"]}, CONFIG, tmp_path)
    assert words.encode(["a b <eos>c"[:3], "c"]).tolist() == [0, 2, words.eos, 3, words.eos]
    assert words.eos == 1  # two rows: before b, which comes twice as well
    assert (words.vocab_size, words.untrained_unk) == (4, None)


def test_wordlevel_agrees_with_its_serialised_self_and_round_trips(tmp_path: Path) -> None:
    words = build_tokenizer("wordlevel", ROWS, CONFIG, tmp_path)
    row = "the  cat\tnaïve 日本 . \u00a0 mat"
    ids = words.encode([row]).tolist()
    assert Tokenizer.from_str(words.json).encode(row).ids == ids[:-1]
    assert decoded(words.json, ids) == "the cat naïve 日本 . mat <eos>"


def test_wordlevel_adds_unk_only_where_it_is_needed(tmp_path: Path) -> None:
    words = build_tokenizer("wordlevel", {**ROWS, "test": ["the dog"]}, CONFIG, tmp_path)
    assert words.untrained_unk == words.vocab_size - 1
    assert words.encode(["the dog"]).tolist()[1] == words.untrained_unk
    known = build_tokenizer(
        "wordlevel", {**ROWS, "test": ["the dog"]}, CONFIG, tmp_path, lexicon=["dog"]
    )
    assert known.untrained_unk is None
    own = build_tokenizer("wordlevel", {"train": ["<unk> a"], "test": ["b"]}, CONFIG, tmp_path)
    assert own.untrained_unk is None  # trained like every other word


def test_wordlevel_refuses_a_text_with_its_end_of_row(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.tokenizer=wordlevel: .*<eos>"):
        build_tokenizer("wordlevel", {"train": ["a <eos> b"]}, CONFIG, tmp_path)


@pytest.mark.usefixtures("no_hub")
def test_gpt2_without_a_network_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^data\.tokenizer=gpt2: .*no network"):
        build_tokenizer("gpt2", ROWS, CONFIG, tmp_path)


def test_gpt2_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = train_bpe(TRAIN, 300)
    cached.add_special_tokens([module.GPT2_EOS])
    cached.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(module.hub, "cached", lambda *args: tmp_path)
    gpt2 = build_tokenizer("gpt2", ROWS, CONFIG, tmp_path)
    assert gpt2.eos == cached.token_to_id(module.GPT2_EOS)
    assert gpt2.encode(["a"]).tolist()[-1] == gpt2.eos
    assert gpt2.vocab_size == cached.get_vocab_size()
