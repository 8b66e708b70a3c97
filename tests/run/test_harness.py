"""Trained models in lm-evaluation-harness, on a task of this machine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from commands import TINY, TINY_PPL, Command
from phasebench.training.loading import load

lm_eval = pytest.importorskip("lm_eval", reason="needs pip install 'phasebench[lm-eval]'")
pytestmark = pytest.mark.filterwarnings("default")  # the harness's own


@pytest.fixture
def run(command: Command) -> Path:
    assert command(TINY, "bench=ppl", TINY_PPL).results
    return next(Path("outputs").rglob("results.json")).parent


def test_a_local_task_has_the_perplexity_and_choices_of_the_model(
    run: Path, tmp_path: Path
) -> None:
    from lm_eval.tasks import TaskManager

    from phasebench.run.harness import HarnessModel

    loaded = load(run)
    words = sorted(loaded.tokenizer.get_vocab(), key=loaded.tokenizer.get_vocab().get)
    rows = [" ".join(words[i : i + 6]) + "\n" + words[i + 6] for i in (2, 9)]
    data = [{"text": row, "choices": [" " + words[5], " " + words[6]], "gold": 1} for row in rows]
    (tmp_path / "data.json").write_text("\n".join(map(json.dumps, data)))
    source = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.json")}},
        "test_split": "test",
    }
    perplexity = source | {
        "task": "local_text",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}],
    }
    choice = source | {
        "task": "local_choice",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_target": "gold",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc"}],
    }
    outcome = lm_eval.simple_evaluate(
        model=HarnessModel(path=str(run)),
        tasks=[perplexity, choice],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    nats, right = 0.0, 0
    for row in rows:
        tokens = torch.tensor([loaded.eos, *loaded.encode(row)])
        with torch.no_grad():
            shares = loaded.model(tokens[None])[0].double().log_softmax(-1)
        nats -= shares[:-1].gather(-1, tokens[1:, None]).sum().item()
        right += int(shares[-1][loaded.encode(words[6])] > shares[-1][loaded.encode(words[5])])
    found = outcome["results"]
    count = sum(len(row.split()) for row in rows)
    assert found["local_text"]["word_perplexity,none"] == pytest.approx(math.exp(nats / count))
    assert found["local_choice"]["acc,none"] == right / len(rows)


def test_generation_stops_where_the_task_says(run: Path) -> None:
    from lm_eval.api.instance import Instance

    from phasebench.run.harness import HarnessModel

    model, loaded = HarnessModel(path=str(run)), load(run)
    word = max(loaded.tokenizer.get_vocab(), key=len)
    for context in ("\n", f"{word}   {word}\n\n{word}"):  # the second is decoded with other blanks
        told = loaded.decode(loaded.encode(context))
        whole = loaded.generate(context, tokens=20, temperature=0.0).removeprefix(told)
        stop = whole.split()[1]
        words = {"until": [stop], "max_gen_toks": 20}
        request = Instance("generate_until", {}, (context, words), 0)
        assert model.generate_until([request]) == [whole.partition(stop)[0]]
    assert told != context
