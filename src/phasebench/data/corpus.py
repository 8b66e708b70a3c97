"""A corpus: a text's splits as streams of token ids, and what a perplexity on them means."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int64
from torch import Tensor

from phasebench.config import ConfigError, DataConfig
from phasebench.config.files import content_hash, os_errors, user_path
from phasebench.data.hub import HubUnavailable
from phasebench.data.synthetic import SyntheticSource
from phasebench.data.text import text_rows
from phasebench.data.tokenizer import build_tokenizer
from phasebench.data.wikitext import SUBSETS, how_to_get, wikitext_rows


@dataclass(frozen=True)
class Split:
    """One split. A perplexity per word or byte divides the same summed loss by these counts."""

    name: str  # train, validation, test
    tokens: Int64[Tensor, " N"]  # every row's tokens, each row followed by one <eos>
    words: int  # separated by whitespace, plus one <eos> a row (as the literature counts WikiText)
    bytes: int  # of the rows in UTF-8, plus one newline a row
    # synthetic: -ln p of the split under the source itself; no model does better on average
    entropy_nats: float | None


@dataclass(frozen=True)
class Corpus:
    """The tokenised splits of one text."""

    name: str  # wikitext2, wikitext103, text, synthetic: what it is, also where data.name=auto
    source: str  # a sentence: where the text is from
    splits: dict[str, Split]
    vocab_size: int  # number of ids
    eos: int
    tokenizer_name: str
    tokenizer_json: str  # serialised `tokenizers.Tokenizer`
    fingerprint: str  # sha256 over the tokenizer and the tokens of all splits
    comparable: bool  # whether a perplexity on it compares with published ones
    notice: str | None  # what the reader of the results must know
    entropy_rate: float | None  # synthetic: exact, nats per word, <eos> included


@dataclass(frozen=True)
class _Text:
    name: str
    source: str
    rows: dict[str, list[str]]
    notice: str | None = None
    generator: SyntheticSource | None = None


_kept: dict[tuple[str, Path], Corpus] = {}  # the last corpus, by what was asked for


def load_corpus(
    config: DataConfig, cache_dir: Path, say: Callable[[str, str], None] | None = None
) -> Corpus:
    """Load the corpus that ``config`` describes; tokenizers are kept in ``cache_dir``.

    The last corpus stays in memory: points of a sweep that share a process read it once, until
    the configuration or the files at ``data.path`` change. ``say(text, style)`` shows the user
    a line about a text that is read.

    ``data.name=auto`` is WikiText-2 if it can be had, else the synthetic text with a notice.
    Raises `ConfigError` for a text that is missing or unusable, a tokenizer that cannot be had,
    and a ``cache_dir`` that cannot be made.
    """
    content = None
    if config.path is not None:
        path = user_path(config.path, "data.path")
        with os_errors("data.path", config.path, "a path that can be read"):
            content = content_hash(path)
    key = json.dumps([dataclasses.asdict(config), content]), cache_dir
    if key not in _kept:
        with os_errors("cache_dir", cache_dir, "cache_dir=FOLDER that can be written"):
            cache_dir.mkdir(parents=True, exist_ok=True)
        corpus = _load(config, cache_dir)
        _kept.clear()
        _kept[key] = corpus
        if say:
            types = f"{corpus.tokenizer_name} tokenizer, {corpus.vocab_size:,} types"
            say(f"data: {corpus.source}; {types}", "")
            if corpus.notice:
                say(f"NOTICE: {corpus.notice}", "bold yellow")
    return _kept[key]


def _load(config: DataConfig, cache_dir: Path) -> Corpus:
    text = _text(config)
    source, name = text.generator, config.tokenizer
    if name == "auto":
        name = "wordlevel" if source else "bpe"
    lexicon = source.lexicon if source else []
    tokenizer = build_tokenizer(name, text.rows, config, cache_dir, lexicon)
    splits = {
        name: Split(
            name=name,
            tokens=tokenizer.encode(rows),
            words=sum(len(row.split()) + 1 for row in rows),
            bytes=sum(len(row.encode()) + 1 for row in rows),
            entropy_nats=source.surprisal(rows) if source else None,
        )
        for name, rows in text.rows.items()
    }
    notices = [text.notice, _unk_notice(tokenizer.untrained_unk, splits)]
    digest = hashlib.sha256(tokenizer.json.encode())
    for split in splits.values():
        digest.update(f"\n{split.name}:{len(split.tokens)}:".encode())
        digest.update(split.tokens.numpy().tobytes())
    return Corpus(
        name=text.name,
        source=text.source,
        splits=splits,
        vocab_size=tokenizer.vocab_size,
        eos=tokenizer.eos,
        tokenizer_name=tokenizer.name,
        tokenizer_json=tokenizer.json,
        fingerprint=digest.hexdigest(),
        comparable=text.name in SUBSETS,
        notice=" ".join(filter(None, notices)) or None,
        entropy_rate=source.entropy_rate if source else None,
    )


def _unk_notice(unk: int | None, splits: dict[str, Split]) -> str | None:
    if unk is None:
        return None
    shares = ", ".join(
        f"{(splits[name].tokens == unk).float().mean():.1%} of {name}"
        for name in ("validation", "test")
    )
    return (
        "Words that the training split does not have are one <unk>, which no training has seen: "
        f"{shares}; data.tokenizer=bpe has no such words."
    )


def _text(config: DataConfig) -> _Text:
    if config.name == "synthetic":
        return _synthetic(config)
    if config.name == "text":
        rows, source = text_rows(config)
        return _Text("text", source, rows)
    name = "wikitext2" if config.name == "auto" else config.name
    try:
        rows, source = wikitext_rows(config, name)
    except HubUnavailable as error:
        fix = how_to_get(config, name)
        if config.name != "auto":
            problem = f"is not in the hub's local cache and cannot be had: {error}"
            raise ConfigError("data.name", config.name, problem, fix) from error
        notice = (
            f"WikiText-2 could not be had ({error}): this is SYNTHETIC text, and its "
            f"perplexities do not compare with published ones. For WikiText-2: {fix}."
        )
        return _synthetic(config, notice)
    return _Text(name, source, rows)


def _synthetic(config: DataConfig, notice: str | None = None) -> _Text:
    total, seed = config.synthetic.rows, config.synthetic.seed
    generator = SyntheticSource(seed)
    sizes = {"train": total - 2 * (total // 10), "validation": total // 10, "test": total // 10}
    rows = {name: generator.rows(n, seed=i) for i, (name, n) in enumerate(sizes.items())}
    source = f"phasebench's synthetic source of known entropy, seed {seed}, {total} rows"
    return _Text("synthetic", source, rows, notice, generator)
