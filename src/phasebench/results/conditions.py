"""The specification's conditions: the sizes at which its three benchmarks were stated, and whether a run meets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from phasebench.config import Config

GPT2_VOCAB = 50257  # entries of GPT-2's tokenizer


@dataclass(frozen=True)
class Condition:
    """A dotted key of the configuration, the specification's value, and the benchmarks that it is a condition of."""

    name: str
    wanted: Any
    benches: tuple[str, ...]


CONDITIONS = (
    Condition("data.name", "wikitext2", ("ppl", "energy")),
    Condition("data.vocab_size", GPT2_VOCAB, ("ppl", "energy")),
    Condition("model.dim", 512, ("ppl", "energy", "vram")),
    Condition("model.blocks", 6, ("ppl", "energy", "vram")),
    Condition("model.ode.steps", 10, ("ppl",)),
    Condition("bench.ppl.batch", 4, ("ppl",)),
    Condition("bench.ppl.seq", 1024, ("ppl",)),
    Condition("bench.ppl.precision", "fp16", ("ppl",)),
    Condition("bench.energy.batch", 4, ("energy",)),
    Condition("bench.energy.seq", 512, ("energy",)),
    Condition("bench.energy.dt", 0.1, ("energy",)),
    Condition("bench.energy.steps", 100, ("energy",)),
    Condition("bench.vram.vocab", GPT2_VOCAB, ("vram",)),
    Condition("bench.vram.batch", 2, ("vram",)),
    Condition("bench.vram.seq", 2048, ("vram",)),
)


def check(
    config: Config, corpus_name: str | None = None, vocab_size: int | None = None
) -> list[dict[str, Any]]:
    """Each of the specification's conditions on this run's benchmarks: its ``name``, ``seed`` value, value ``used``, ``met``.

    `corpus_name` is the text in use, which ``data.name=auto`` does not say, and `vocab_size` the number of its
    tokenizer's types, which a word-level vocabulary takes from the text; ``used`` is None where nothing tells it.
    """
    found = []
    for condition in CONDITIONS:
        if any(bench in config.bench for bench in condition.benches):
            used = _used(config, condition.name, corpus_name, vocab_size)
            found.append(
                {
                    "name": condition.name,
                    "seed": condition.wanted,
                    "used": used,
                    "met": used == condition.wanted,
                }
            )
    return found


def _used(config: Config, name: str, corpus_name: str | None, vocab_size: int | None) -> Any:
    if name == "data.name":
        return corpus_name or (None if config.data.name == "auto" else config.data.name)
    if name == "data.vocab_size":
        return _vocabulary(config, corpus_name) if vocab_size is None else vocab_size
    if name.startswith("model.ode.") and config.model.name != "stage2":
        return None
    found: Any = config
    for part in name.split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


def _vocabulary(config: Config, corpus_name: str | None) -> int | None:
    """The size that the configuration gives: what bpe is trained to, or GPT-2's; None for that of a text's words."""
    kind = config.data.tokenizer
    if kind == "auto":
        kind = "wordlevel" if (corpus_name or config.data.name) == "synthetic" else "bpe"
    return {"bpe": config.data.vocab_size, "gpt2": GPT2_VOCAB}.get(kind)
