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


def check(config: Config, text: Json | None = None) -> list[Condition]:
    """Compare a run with the specification's conditions on its benchmarks.

    `text` is what results.json says of the text in use, which the configuration does not tell:
    ``data.name=auto``, and a vocabulary of a text's own words. None where no text is used.
    """
    conditions = []
    for benches, wanted in CONDITIONS.items():
        for name, value in wanted.items() if set(benches) & set(config.bench) else ():
            used = _used(config, name, text)
            conditions.append(Condition(name, value, used, used == value))
    return conditions


def _used(config: Config, name: str, text: Json | None) -> Any:
    group, _, key = name.partition(".")
    if group == "data":
        return text and text[key]
    if name.startswith("model.ode.") and not config.model.has_flow:
        return None
    return functools.reduce(
        lambda group, key: group[key] if isinstance(group, dict) else getattr(group, key),
        name.split("."),
        config,
    )
