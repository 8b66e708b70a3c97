"""Tokenizers: rows of text to one stream of ids, <eos> after every row.

``wordlevel``  closed vocabulary: the words of the training split
``bpe``        byte-level byte-pair encoding, trained on the training split and cached
``gpt2``       GPT-2's own, from the hub or its local cache
``hf:NAME``    that of a folder or of a model of the hub, in the layout of transformers
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from filelock import FileLock
from jaxtyping import Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from phasebench.config import ConfigError, DataConfig
from phasebench.config.files import os_errors
from phasebench.data import hub
from phasebench.results.jsonfile import write_atomic

EOS = "<eos>"
UNK = "<unk>"
GPT2_EOS = "<|endoftext|>"
PRETRAINED = "hf:"
CHUNK = 8192  # rows encoded at a time: bounds the memory of WikiText-103

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowTokenizer:
    """A tokenizer and how it turns rows into a stream of ids."""

    name: str
    json: str  # of a `tokenizers.Tokenizer`, serialised
    vocab_size: int  # number of ids
    eos: int
    encode: Callable[[Sequence[str]], Int64[Tensor, " N"]]
    untrained_unk: int | None = None  # id of an <unk> that the training split does not have


def build_tokenizer(
    name: str,
    rows: dict[str, list[str]],
    config: DataConfig,
    cache_dir: Path,
    lexicon: Sequence[str] = (),
) -> RowTokenizer:
    """Make the tokenizer ``name`` for the rows of every split.

    ``lexicon`` are known further words. Raises `ConfigError` if a pretrained one cannot be had, if
    the text has the word <eos> (wordlevel), or if ``cache_dir`` cannot be written (bpe).
    """
    # said, so that a later fork gives no warning
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if name == "wordlevel":
        return _wordlevel(rows, lexicon)
    if name.startswith(PRETRAINED):
        return _pretrained(name)
    if name == "gpt2":
        limits = {"revision": None, "timeout_s": config.timeout_s}
        try:
            folder = hub.fetch("gpt2", "model", ["tokenizer.json"], **limits)
        except hub.HubUnavailable as error:
            problem = f"is not in the hub's local cache and cannot be had: {error}"
            fix = "data.tokenizer=bpe, or run once with a network"
            raise ConfigError("data.tokenizer", "gpt2", problem, fix) from error
        pretrained = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return _row_tokenizer("gpt2", pretrained, GPT2_EOS)
    return _row_tokenizer("bpe", _cached_bpe(rows["train"], config.vocab_size, cache_dir), EOS)


def _pretrained(name: str) -> RowTokenizer:
    folder = hub.model_folder(
        name.removeprefix(PRETRAINED), "data.tokenizer", ["tokenizer.json", "tokenizer_config.json"]
    )
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        eos = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["eos_token"]
    except Exception as error:  # tokenizers raises bare exceptions
        problem, fix = f"cannot be read: {error!r}", "a tokenizer that save_pretrained wrote"
        raise ConfigError("data.tokenizer", name, problem, fix) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _row_tokenizer(name, tokenizer, eos["content"] if isinstance(eos, dict) else eos)


def _wordlevel(rows: dict[str, list[str]], lexicon: Sequence[str]) -> RowTokenizer:
    counts = Counter(dict.fromkeys(lexicon, 0))
    counts.update(word for row in rows["train"] for word in row.split())
    words = {word for split in rows.values() for row in split for word in row.split()}
    if EOS in words:
        problem = f"the text has the word {EOS}, which marks the end of a row"
        raise ConfigError("data.tokenizer", "wordlevel", problem, "data.tokenizer=bpe")
    counts[EOS] = len(rows["train"])
    unseen = UNK not in counts and not words <= counts.keys()
    if unseen:
        counts[UNK] = 0
    ids = {word: i for i, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word)))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([EOS])
    return _row_tokenizer("wordlevel", tokenizer, EOS, ids[UNK] if unseen else None)


def _row_tokenizer(
    name: str, tokenizer: Tokenizer, eos_token: str, untrained_unk: int | None = None
) -> RowTokenizer:
    eos = tokenizer.token_to_id(eos_token)
    if eos is None:
        problem, fix = f"its file has no token {eos_token}", "delete it from the hub's cache"
        raise ConfigError("data.tokenizer", name, problem, fix)
    tokenizer.encode_special_tokens = True  # an <eos> within the text is text
    by_words = name == "wordlevel"  # as Python splits them, whose blanks are a few more

    def encode(rows: Sequence[str]) -> Tensor:
        stream, remaining = array("q"), iter(rows)
        while chunk := list(islice(remaining, CHUNK)):
            texts = [row.split() for row in chunk] if by_words else chunk
            for encoding in tokenizer.encode_batch_fast(
                texts, is_pretokenized=by_words, add_special_tokens=False
            ):
                stream.extend(encoding.ids)
                stream.append(eos)
        return torch.frombuffer(stream, dtype=torch.int64)

    size = tokenizer.get_vocab_size()
    return RowTokenizer(name, tokenizer.to_str(), size, eos, encode, untrained_unk)


def train_bpe(rows: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level byte-pair encoding: 256 bytes, <eos>, merges, up to ``vocab_size``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(rows, trainer)
    return tokenizer


def _cached_bpe(rows: Sequence[str], vocab_size: int, cache_dir: Path) -> Tokenizer:
    digest = hashlib.sha256(f"bpe:{vocab_size}:{len(rows)}\n".encode())
    for row in rows:
        digest.update(row.encode() + b"\n")
    path = cache_dir / "tokenizers" / f"{digest.hexdigest()[:32]}.json"
    with os_errors("cache_dir", cache_dir, "cache_dir=FOLDER that can be written"):
        tokenizer = _read(path, vocab_size)  # without the lock: reading needs no write
        if tokenizer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                tokenizer = _read(path, vocab_size) or train_bpe(rows, vocab_size)
                write_atomic(path, tokenizer.to_str())
    return tokenizer


def _read(path: Path, vocab_size: int) -> Tokenizer | None:
    """Read a cached tokenizer; None, with a warning, where it must be trained again."""
    if not path.exists():
        return None
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions
        log.warning("%s is damaged (%s): training the tokenizer again", path, error)
        return None
    if tokenizer.token_to_id(EOS) is None or not 257 <= tokenizer.get_vocab_size() <= vocab_size:
        log.warning("%s is not the tokenizer that its name says: training it again", path)
        return None
    return tokenizer
