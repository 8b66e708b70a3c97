"""The specification's conditions: the sizes at which its three benchmarks were stated; are they
met?
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from phasebench.config import Config
from phasebench.results.jsonfile import Json

GPT2_VOCAB = 50257  # entries of GPT-2's tokenizer
# benches -> dotted key of the configuration -> the specification's value
CONDITIONS: dict[tuple[str, ...], Json] = {
    ("ppl", "energy"): {"data.name": "wikitext2", "data.vocab_size": GPT2_VOCAB},
    ("ppl", "energy", "vram"): {"model.dim": 512, "model.blocks": 6},
    ("ppl",): {
        "model.ode.steps": 10,
        "bench.ppl.batch": 4,
        "bench.ppl.seq": 1024,
        "bench.ppl.precision": "fp16",
    },
    ("energy",): {
        "bench.energy.batch": 4,
        "bench.energy.seq": 512,
        "bench.energy.dt": 0.1,
        "bench.energy.steps": 100,
    },
    ("vram",): {"bench.vram.vocab": GPT2_VOCAB, "bench.vram.batch": 2, "bench.vram.seq": 2048},
}


@dataclass(frozen=True)
class Condition:
    """A condition as results.json records it; `seed` is the specification's value."""

    name: str
    seed: Any
    used: Any  # None where nothing tells it
    met: bool


def check(
    config: Config, corpus_name: str | None = None, vocab_size: int | None = None
) -> list[Condition]:
    """Compare a run with the specification's conditions on its benchmarks.

    `corpus_name` is the text in use, which ``data.name=auto`` does not say, and `vocab_size` the
    number of its tokenizer's types, which a word-level vocabulary takes from the text.
    """
    conditions = []
    for benches, wanted in CONDITIONS.items():
        for name, value in wanted.items() if set(benches) & set(config.bench) else ():
            used = _used(config, name, corpus_name, vocab_size)
            conditions.append(Condition(name, value, used, used == value))
    return conditions


def _used(config: Config, name: str, corpus_name: str | None, vocab_size: int | None) -> Any:
    data = config.data
    if name == "data.name":
        return corpus_name or (None if data.name == "auto" else data.name)
    if name == "data.vocab_size":
        if vocab_size is not None:
            return vocab_size
        is_synthetic = (corpus_name or data.name) == "synthetic"
        automatic = "wordlevel" if is_synthetic else "bpe"
        tokenizer = automatic if data.tokenizer == "auto" else data.tokenizer
        return {"bpe": data.vocab_size, "gpt2": GPT2_VOCAB}.get(tokenizer)
    if name.startswith("model.ode.") and not config.model.has_flow:
        return None
    return functools.reduce(
        lambda group, key: group[key] if isinstance(group, dict) else getattr(group, key),
        name.split("."),
        config,
    )
