from __future__ import annotations

import logging
import math
import socket
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer

from phasebench.config import ConfigError, DataConfig, SyntheticConfig
from phasebench.data import Corpus, SyntheticSource, hub, load_corpus, training_batch

SMALL = SyntheticConfig(rows=40)


def test_synthetic_corpus(tmp_path: Path) -> None:
    corpus = load_corpus(DataConfig(name="synthetic", synthetic=SMALL), tmp_path)
    source = SyntheticSource(0)
    assert corpus.entropy_rate == source.entropy_rate
    assert corpus.vocab_size == len(source.lexicon) + 1  # also the words that so small a text lacks
    assert (corpus.name, corpus.tokenizer_name) == ("synthetic", "wordlevel")
    assert (corpus.comparable, corpus.notice) == (False, None)
    assert [int((split.tokens == corpus.eos).sum()) for split in corpus.splits.values()] == [
        32,
        4,
        4,
    ]
    for name, split in corpus.splits.items():
        text = Tokenizer.from_str(corpus.tokenizer_json).decode(
            split.tokens.tolist(), skip_special_tokens=False
        )
        rows = [row.strip() for row in text.split("<eos>")[:-1]]
        assert (split.name, split.tokens.dtype, split.words) == (
            name,
            torch.int64,
            len(split.tokens),
        )
        assert split.bytes == sum(len(row) + 1 for row in rows)
        assert split.entropy_nats == pytest.approx(source.surprisal(rows))


def test_default_size_and_floor_of_the_synthetic_corpus(tmp_path: Path) -> None:
    corpus = load_corpus(DataConfig(name="synthetic"), tmp_path)
    assert 250_000 < sum(len(split.tokens) for split in corpus.splits.values()) < 350_000
    assert corpus.entropy_rate is not None
    for split in corpus.splits.values():
        assert split.entropy_nats is not None
        assert math.exp(split.entropy_nats / split.words) == pytest.approx(
            math.exp(corpus.entropy_rate), rel=0.02
        )


def test_the_fingerprint_tells_corpora_apart_and_is_reproducible(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some words of a text\n" * 30)
    configs = [
        DataConfig(name="synthetic", synthetic=SMALL),
        DataConfig(name="synthetic", synthetic=SyntheticConfig(rows=40, seed=1)),
        DataConfig(name="synthetic", synthetic=SMALL, tokenizer="bpe", vocab_size=300),
        DataConfig(name="text", path=str(path)),
        DataConfig(name="text", path=str(path), held_out=0.2),
    ]
    prints = [load_corpus(config, tmp_path).fingerprint for config in configs]
    assert len(set(prints)) == len(prints)
    assert prints == [load_corpus(config, tmp_path / "other").fingerprint for config in configs]


def test_text_corpus_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ä word\nx\n" * 20)
    corpus = load_corpus(DataConfig(name="text", path=str(path), tokenizer="wordlevel"), tmp_path)
    train = corpus.splits["train"]
    assert (train.words, train.bytes, train.entropy_nats) == (16 * (3 + 2), 16 * (8 + 2), None)
    assert (corpus.comparable, corpus.notice, corpus.entropy_rate) == (False, None, None)


def test_a_cache_that_cannot_be_made_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^cache_dir="):
        load_corpus(DataConfig(name="synthetic", synthetic=SMALL), tmp_path / "file" / "below")


def test_unknown_words_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old words\n" * 18 + "new words\n")
    corpus = load_corpus(DataConfig(name="text", path=str(path), tokenizer="wordlevel"), tmp_path)
    assert corpus.notice is not None
    assert "0.0% of validation, 33.3% of test" in corpus.notice


def test_a_text_shorter_than_one_sequence(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("just a few words\n" * 10)
    tokens = load_corpus(DataConfig(name="text", path=str(path)), tmp_path).splits["train"].tokens
    with pytest.raises(ConfigError, match=rf"^train\.seq=512: .* {len(tokens)} tokens"):
        training_batch(tokens, 0, batch=1, seq=512, seed=0)


@pytest.mark.usefixtures("no_hub")
def test_auto_falls_back_loudly(tmp_path: Path) -> None:
    corpus = load_corpus(DataConfig(synthetic=SMALL), tmp_path)
    assert (corpus.name, corpus.tokenizer_name, corpus.comparable) == (
        "synthetic",
        "wordlevel",
        False,
    )
    assert corpus.notice is not None
    for part in (
        "WikiText-2",
        "no network (test)",
        "SYNTHETIC",
        "data.path=FOLDER",
        "wikitext-2-v1",
    ):
        assert part in corpus.notice


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("name", ["wikitext2", "wikitext103"])
def test_wikitext_never_falls_back(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.name={name}: .*no network") as caught:
        load_corpus(DataConfig(name=name), tmp_path)
    assert "data.path=FOLDER" in str(caught.value)
    assert "data=synthetic" in str(caught.value)


@pytest.mark.parametrize("name", ["auto", "wikitext2"])
def test_a_given_path_that_does_not_exist_never_falls_back(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.path=/nowhere: does not exist"):
        load_corpus(DataConfig(name=name, path="/nowhere"), tmp_path)


def test_a_hanging_network_is_given_up_on_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()  # the hub answers only after that
    monkeypatch.setattr(
        huggingface_hub.HfApi, "repo_info", lambda *args, **kwargs: given_up.wait(60)
    )
    corpus = load_corpus(
        DataConfig(hub="phasebench-tests/absent", timeout_s=0.3, synthetic=SMALL), tmp_path
    )
    given_up.set()
    assert corpus.notice is not None
    assert "did not answer within 0.3 s" in corpus.notice


@pytest.mark.shared
def test_word_level_wikitext2_has_the_published_counts(tmp_path: Path, wikitext_path: str) -> None:
    config = DataConfig(name="auto", path=wikitext_path, tokenizer="wordlevel")
    corpus = load_corpus(config, tmp_path)
    assert corpus.vocab_size == 33278
    counts = {name: len(split.tokens) for name, split in corpus.splits.items()}
    assert counts == {"train": 2088628, "validation": 217646, "test": 245569}
    assert counts == {name: split.words for name, split in corpus.splits.items()}
    assert (corpus.name, corpus.comparable, corpus.notice) == ("wikitext2", True, None)
    ids = Tokenizer.from_str(corpus.tokenizer_json).get_vocab()
    assert ids["<unk>"] < 20
    assert "<eos>" in ids


@pytest.mark.shared
def test_bpe_of_wikitext2_keeps_the_text(tmp_path: Path, wikitext_path: str) -> None:
    corpus = load_corpus(
        DataConfig(name="wikitext2", path=wikitext_path, vocab_size=1024), tmp_path
    )
    test = corpus.splits["test"]
    assert (corpus.vocab_size, corpus.tokenizer_name, test.words) == (1024, "bpe", 245569)
    text = Tokenizer.from_str(corpus.tokenizer_json).decode(
        test.tokens.tolist(), skip_special_tokens=False
    )
    assert len(text.replace("<eos>", "\n").encode()) == test.bytes


def test_a_text_is_read_once_in_a_process_until_it_changes(tmp_path: Path) -> None:
    lines: list[str] = []

    def load(config: DataConfig) -> Corpus:
        return load_corpus(config, tmp_path, lambda text, style: lines.append(text))

    synthetic = DataConfig(name="synthetic", synthetic=SyntheticConfig(rows=40))
    assert load(synthetic) is load(synthetic)
    assert [line.split(":")[0] for line in lines] == ["data"]
    file = tmp_path / "text.txt"
    file.write_text("a few words\n" * 40)
    text = DataConfig(name="text", path=str(file), tokenizer="wordlevel")
    before = load(text)
    file.write_text("a few other words\n" * 50)
    assert load(text).fingerprint != before.fingerprint
    assert len(lines) == 3


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever asks for an address or opens a socket."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a socket was asked for: {args}")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_sockets")
def test_a_local_text_opens_no_socket(tmp_path: Path) -> None:
    load_corpus(DataConfig(name="synthetic", synthetic=SMALL), tmp_path)
    file = tmp_path / "text.txt"
    file.write_text("a few words of text\n" * 40)
    load_corpus(DataConfig(name="text", path=str(file), vocab_size=260), tmp_path)
    for split in ("train", "validation", "test"):
        path = tmp_path / "w" / "wikitext-2-v1" / f"{split}-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": ["a few words"]}), path)
    for name in ("wikitext2", "auto"):
        config = DataConfig(name=name, path=str(tmp_path / "w"), tokenizer="wordlevel")
        assert load_corpus(config, tmp_path).name == "wikitext2"


@pytest.mark.usefixtures("no_sockets")
def test_the_hub_is_named_before_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def ask(*args: Any) -> str:
        said.extend(record.getMessage() for record in caplog.records)
        return "no network (test)"

    monkeypatch.setattr(hub, "cached", lambda *args: None)
    monkeypatch.setattr(hub, "unreachable", ask)
    with caplog.at_level(logging.INFO):
        assert load_corpus(DataConfig(synthetic=SMALL), tmp_path).name == "synthetic"
    assert len(said) == 1
    assert "Salesforce/wikitext is not in the local cache: asking the hub, https://" in said[0]
