"""Trained weights: given, cached or trained; what is damaged or of other weights is never used."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from phasebench.config import ConfigError, DataConfig, ModelConfig, SyntheticConfig, TrainConfig
from phasebench.data import Corpus, load_corpus
from phasebench.training import weights as module
from phasebench.training.checkpoint import checksum, weights
from phasebench.training.loop import partial_path
from phasebench.training.weights import Trained, WeightSource

MODEL = ModelConfig(name="stage1", dim=8, blocks=1, heads=2, hidden=8)
RECIPE = TrainConfig(steps=3, batch=2, seq=8, warmup=1, precision="fp32", validate_tokens=64)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = DataConfig(name="synthetic", synthetic=SyntheticConfig(rows=20))
    return load_corpus(config, tmp_path_factory.mktemp("cache"))


class Bench:
    """A weight source of one cache, and what it said."""

    def __init__(self, corpus: Corpus, cache: Path) -> None:
        self.corpus, self.cache, self.said = corpus, cache, []

    def trained(self, seed: int = 0, **changes: Any) -> Trained:
        source = WeightSource(
            self.corpus,
            RECIPE,
            seed=seed,
            device=torch.device("cpu"),
            cache=self.cache,
            say=self.said.append,
            observers=lambda name: [],
        )
        return source.trained(dataclasses.replace(MODEL, **changes), "model")

    def file(self, trained: Trained) -> Path:
        return self.cache / "weights" / trained.origin["file"]


@pytest.fixture
def bench(corpus: Corpus, tmp_path: Path) -> Bench:
    return Bench(corpus, tmp_path)


def equal(one: Trained, other: Trained) -> bool:
    theirs = weights(other.model)
    return all(torch.equal(w, theirs[name]) for name, w in weights(one.model).items())


def test_weights_are_trained_once(bench: Bench) -> None:
    first, second = bench.trained(), bench.trained()
    assert (first.origin["origin"], second.origin["origin"]) == ("trained", "cache")
    assert equal(first, second)
    assert first.origin["steps"] == second.origin["steps"]
    assert not equal(bench.trained(seed=1), first)


def test_a_file_has_its_whole_configuration_and_tokenizer(bench: Bench) -> None:
    path = bench.file(bench.trained(seed=3))
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    configuration = json.loads(metadata["configuration"])
    assert configuration["model"] == dataclasses.asdict(MODEL)
    assert configuration["train"] == dataclasses.asdict(RECIPE)
    assert (configuration["seed"], configuration["data"]) == (3, "synthetic")
    assert metadata["tokenizer"] == bench.corpus.tokenizer_json
    recorded = metadata.pop("checksum")
    assert recorded == checksum(tensors, metadata)


def test_kind_2_a_file_of_another_seed_is_set_aside_and_trained_again(bench: Bench) -> None:
    zero, one = bench.trained(seed=0), bench.trained(seed=1)
    bench.file(one).write_bytes(bench.file(zero).read_bytes())
    again = bench.trained(seed=1)
    assert again.origin["origin"] == "trained"
    assert equal(again, one)
    assert "was trained under other conditions: weights is" in bench.said[-1 - 1]
    assert bench.file(one).with_name(bench.file(one).name + ".aside").exists()
    assert bench.trained(seed=1).origin["origin"] == "cache"


def test_kind_2_a_flipped_bit_in_the_cache_is_set_aside_and_trained_again(bench: Bench) -> None:
    first = bench.trained()
    content = bytearray(bench.file(first).read_bytes())
    content[-3] ^= 16
    bench.file(first).write_bytes(content)
    again = bench.trained()
    assert again.origin["origin"] == "trained"
    assert equal(again, first)
    assert "is damaged" in bench.said[-2]


def test_kind_2_a_flipped_bit_in_a_given_file_is_an_error(bench: Bench, tmp_path: Path) -> None:
    first = bench.trained()
    content = bytearray(bench.file(first).read_bytes())
    given = tmp_path / "given.safetensors"
    given.write_bytes(content)
    assert bench.trained(checkpoint=str(given)).origin["origin"] == "given"
    content[-3] ^= 16
    given.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^model\.checkpoint=.*is damaged.*\n  fix: .*=null"):
        bench.trained(checkpoint=str(given))
    assert given.read_bytes() == content


def test_kind_5_a_home_that_does_not_exist_is_an_error_of_its_key(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"^model\.checkpoint=~nosuchuser/w"):
        bench.trained(checkpoint="~nosuchuser/w")


def test_kind_6_a_full_cache_is_only_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.trained()
    before = {file: file.stat().st_mtime_ns for file in bench.cache.rglob("*")}

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", str(bench.cache))

    monkeypatch.setattr(module, "locked", refuse)
    assert equal(bench.trained(), first)
    assert {file: file.stat().st_mtime_ns for file in bench.cache.rglob("*")} == before
    with pytest.raises(ConfigError, match=rf"^cache_dir=.*{bench.cache}: Permission denied"):
        bench.trained(seed=5)


def test_kind_14_the_unfinished_training_of_finished_weights_is_removed(bench: Bench) -> None:
    partial = partial_path(bench.file(bench.trained()))
    partial.touch()  # as a kill between the last two steps of a training leaves it
    assert bench.trained().origin["origin"] == "cache"
    assert not partial.exists()
