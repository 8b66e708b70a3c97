"""Models of the package transformers beside the stages: tiny ones, made on the spot."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from commands import TINY, TINY_PPL, TINY_SPEED, TINY_VRAM, Command
from phasebench.config import ConfigError, DataConfig, ModelConfig, SyntheticConfig
from phasebench.data import load_corpus
from phasebench.data.tokenizer import train_bpe
from phasebench.models import HuggingFaceModel, require

transformers = pytest.importorskip("transformers")
ROWS = ["a row of text", "and another one", "", "the last"] * 20
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def saved(folder: Path, architecture: str, **changes: Any) -> Path:
    """A model with fresh weights and a tokenizer, as save_pretrained writes them."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(ROWS, 270), eos_token="<eos>"
    )
    torch.manual_seed(7)  # not that of the run: weights as a training begins with are no evidence
    model = {
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=270, n_embd=8, n_layer=1, n_head=2, n_positions=32, **changes
            )
        ),
        "llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=280, intermediate_size=16, max_position_embeddings=64, **SMALL
            )
        ),
        "bert": lambda: transformers.BertForMaskedLM(
            transformers.BertConfig(vocab_size=270, intermediate_size=16, **SMALL)
        ),
    }[architecture]()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config(folder: Path) -> ModelConfig:
    return ModelConfig(name="hf", checkpoint=str(folder))


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_logits_and_loss_are_the_library_s(architecture: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", architecture)
    model = HuggingFaceModel.pretrained(config(folder), "model").eval()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.randint(0, 270, (3, 16))
    targets = torch.randint(0, 270, (3, 16))
    targets[0, :5] = -100
    with torch.no_grad():
        logits = theirs(tokens).logits
        assert torch.equal(model(tokens), logits)
        wanted = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        for chunk in (None, 1, 32):
            total, count = model.loss(tokens, targets, chunk)
            torch.testing.assert_close(total, wanted)
            assert count == 43
    assert model.parameter_counts()["total"] == theirs.num_parameters()


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_it_is_a_reference_of_a_run(architecture: str, command: Command, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", architecture)
    done = command(
        TINY,
        "bench=[ppl,vram] model=stage2 bench.ppl.seq=32 bench.ppl.batch=2 bench.ppl.leak_test=true",
        TINY_PPL,
        TINY_VRAM,
        f"model@bench.ppl.reference=hf bench.ppl.reference.checkpoint={folder}",
    )
    assert done.code in (0, 1), done.out[-3000:]
    [results] = done.results
    ppl = results["benches"]["ppl"]
    metrics = {name: metric["value"] for name, metric in ppl["metrics"].items()}
    assert metrics["candidate_words"] == metrics["reference_words"]
    assert metrics["candidate_tokens"] < metrics["reference_tokens"]  # words against bytes
    ratio = metrics["candidate_word_ppl"] / metrics["reference_word_ppl"]
    assert metrics["reference_ratio"] == pytest.approx(ratio)
    assert ppl["metrics"]["reference_ratio"]["unit"] == "model / reference, per word"
    assert ppl["metrics"]["ppl_ratio"]["unit"] == "model / baseline"
    assert any("tokenizers differ" in notice for notice in ppl["notices"])
    assert metrics["leak"] == 0


def test_it_is_a_reference_of_memory_and_speed(command: Command, tmp_path: Path) -> None:
    folders = {
        name: saved(tmp_path / name, architecture)
        for name, architecture in (("vram", "gpt2"), ("speed", "llama"))
    }
    words = [
        f"model@bench.{name}.reference=hf bench.{name}.reference.checkpoint={folder}"
        for name, folder in folders.items()
    ]
    done = command(TINY, "bench=[vram,speed] bench.vram.seq=16", TINY_VRAM, TINY_SPEED, *words)
    [results] = done.results
    vram, speed = (results["benches"][name]["metrics"] for name in ("vram", "speed"))
    assert vram["reference_peak_gb"]["value"] > 0
    assert vram["reference_peak_gb"]["kind"] == "predicted"
    assert speed["steps_per_s_over_reference"]["value"] > 0


@pytest.mark.parametrize("bench", ["vram", "speed"])
def test_a_reference_with_fewer_positions_than_a_sequence_is_refused(
    command: Command, bench: str
) -> None:
    words = f"bench={bench} bench.{bench}.seq=64 model@bench.{bench}.reference=gpt"
    done = command(TINY, words, f"bench.{bench}.reference.positions=32")
    assert done.code == 2
    assert f"bench.{bench}.reference.positions=32" in done.out + done.err


def test_the_loss_of_its_text_is_that_of_a_plain_loop(command: Command, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", "llama")
    done = command(
        TINY,
        f"bench=ppl model=hf model.checkpoint={folder} bench.ppl.baseline=null bench.ppl.seq=16",
        "bench.ppl.batch=2",
    )
    [results] = done.results
    data = DataConfig("synthetic", tokenizer=f"hf:{folder}", synthetic=SyntheticConfig(rows=80))
    corpus = load_corpus(data, tmp_path / "cache")
    tokens = torch.cat((torch.tensor([corpus.eos]), corpus.splits["test"].tokens))
    model, nats = transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, 16):
            part = tokens[start : start + 17]
            logs = model(part[None, :-1]).logits[0].log_softmax(-1)
            nats -= logs[torch.arange(len(part) - 1), part[1:]].sum().item()
    details = results["benches"]["ppl"]["details"]["candidate"]
    assert details["nats"] == pytest.approx(nats, rel=1e-5)
    words = results["benches"]["ppl"]["metrics"]["candidate_word_ppl"]["value"]
    assert words == pytest.approx(math.exp(nats / corpus.splits["test"].words), rel=1e-4)


@pytest.mark.parametrize(
    ("missing", "problem"),
    [
        ("tokenizer.json", "has no tokenizer.json"),
        ("model.safetensors", r"has no \*\.safetensors"),
        ("config.json", "has no config.json"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_by_name(
    missing: str, problem: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "model", "gpt2")
    (folder / missing).unlink()
    with pytest.raises(ConfigError, match=problem) as refused:
        require(config(folder), "bench.ppl.reference")
    assert refused.value.key == "bench.ppl.reference.checkpoint"


def test_what_is_no_causal_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no causal language model, but BertForMaskedLM"):
        require(config(saved(tmp_path / "bert", "bert")), "model")
    folder = saved(tmp_path / "gpt2", "gpt2")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "nothing"}))
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        require(config(folder), "model")
    with pytest.raises(ConfigError, match="takes its weights from a folder"):
        require(ModelConfig(name="hf"), "model")


def test_a_longer_sequence_than_it_has_positions_is_refused(
    command: Command, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "model", "gpt2")
    done = command(
        TINY,
        "bench=ppl model=stage2 bench.ppl.seq=64 model@bench.ppl.reference=hf",
        TINY_PPL,
        f"bench.ppl.reference.checkpoint={folder}",
    )
    assert done.code == 2
    assert "bench.ppl.seq is 64: hf has no more positions" in done.err


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_an_architecture_is_trained_on_the_run_s_tokens(
    architecture: str, command: Command, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "model", architecture)
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()
    words = [
        *(TINY, "bench=budget bench.budget.budgets=[0.1,0.2] bench.budget.seq=32"),
        "train.schedule=wsd train.seq=32 bench.budget.baseline=null",
        f"model@bench.budget.reference=hf bench.budget.reference.architecture={folder}",
    ]
    (results,) = command(*words).results
    details = results["benches"]["budget"]["details"]
    trainings = details["reference"]["trainings"]
    assert [row["epochs"] for row in trainings] == [0.1, 0.2]
    assert all(row["point"]["valid"] < 7 for row in trainings), trainings
    files = {row["weights"]["file"] for row in trainings}
    assert {name.partition("-")[0] for name in files} == {"hf"}
    # another architecture under the same name is another model
    settings = json.loads((folder / "config.json").read_text())
    settings["initializer_range"] = 0.03
    (folder / "config.json").write_text(json.dumps(settings))
    (again,) = command(*words).results
    others = again["benches"]["budget"]["details"]["reference"]["trainings"]
    assert not files & {row["weights"]["file"] for row in others}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("model=stage1 model.architecture=x", "of stage1, with an architecture"),
        ("model=hf model.architecture=x model.checkpoint=y", "of hf, with an architecture"),
        ("model=hf model.architecture=nowhere/at", "model.architecture=nowhere/at"),
        ("model=hf model.architecture={folder} train.dialectic.margin=0.1", "plain objective"),
    ],
)
def test_architectures_that_cannot_be(
    words: str, said: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = saved(tmp_path / "model", "llama")
    outcome = command(TINY, "bench=ppl", TINY_PPL, words.format(folder=folder))
    assert outcome.code == 2
    assert said in outcome.err
