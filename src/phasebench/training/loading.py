"""Trained weights for a session of one's own: from their file, or from the folder of a run."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer

from phasebench.config import ConfigError, ModelConfig, build
from phasebench.config.files import os_errors
from phasebench.data.tokenizer import EOS, GPT2_EOS
from phasebench.models import LanguageModel, build_model
from phasebench.results import file as results_file
from phasebench.training import checkpoint
from phasebench.training.checkpoint import BadCheckpoint

CONTEXT = 256  # tokens that a generating model sees
_FIX = "weights that phasebench trained (CACHE/weights/*.safetensors), or the folder of a run"
# what else there is: by the first bytes of a file, and by a file of a folder
_FILES = {
    b"PK": "is a zip file, such as of torch.save, which may hold code: it is not opened",
    b"\x80": "is a pickle, which may hold code: it is not opened",
    b"GGUF": "is a GGUF file, of other programs",
}
_FOLDERS = {
    "sweep.json": "is a sweep, each of whose points is a folder of its own",
    "config.json": "is a model of Hugging Face transformers, which reads it",
}


class Loaded(NamedTuple):
    """A trained model, its tokenizer and its configuration."""

    model: LanguageModel
    tokenizer: Tokenizer
    config: ModelConfig

    @property
    def eos(self) -> int:
        """The token that ends a row."""
        vocabulary = self.tokenizer.get_vocab()
        return vocabulary.get(EOS, vocabulary.get(GPT2_EOS, 0))

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, in which a line break ends a row, as in training.

        Raises `ConfigError` for a word that a word-level vocabulary has not.
        """
        tokens: list[int] = []
        try:
            for row in text.split("\n"):
                tokens += [*self.tokenizer.encode(row, add_special_tokens=False).ids, self.eos]
        except Exception as error:  # tokenizers raises bare ones
            fix = "words of the text that it was trained on"
            raise ConfigError("text", text, f"cannot be encoded: {error}", fix) from error
        return tokens[:-1]

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, in which the end of a row is a line break."""
        eos = self.tokenizer.decode([self.eos], skip_special_tokens=False)
        return self.tokenizer.decode(tokens, skip_special_tokens=False).replace(eos, "\n")

    @torch.no_grad()
    def generate(
        self, text: str = "", *, tokens: int = 100, temperature: float = 0.8, seed: int = 0
    ) -> str:
        """Return the text with `tokens` more, each drawn from softmax(logits / temperature).

        0 takes the most probable token. The model sees the mark that begins a row, the text, and
        what it added, as far as `CONTEXT` reaches. Raises what `encode` raises.
        """
        ids = [self.eos, *self.encode(text)]
        device, seen = self.model.head.device, min(CONTEXT, self.config.positions)
        generator = torch.Generator(device).manual_seed(seed)
        state, known = {}, 0
        for _ in range(tokens):
            if len(ids) > seen:  # the window moves, and with it all positions
                logits = self.model(torch.tensor([ids[-seen:]], device=device))[:, -1]
            else:
                new, known = torch.tensor(ids[known:], device=device), len(ids)
                logits = [self.model.step(token, state) for token in new.split(1)][-1]
            shares = (logits[0].double() / max(temperature, 1e-6)).softmax(-1)
            ids.append(int(shares.multinomial(1, generator=generator)))
        return self.decode(ids[1:])


def load(
    path: str | PathLike[str], *, role: str = "candidate", allow_targets: bool = False
) -> Loaded:
    """Read trained weights, and make the model that they are of, on the CPU, for evaluation.

    Args:
        path: a file of weights, which holds its configuration and tokenizer; or the folder of a
            run, whose flow is then integrated as in that run; or what ``phasebench export`` wrote.
        role: of a run's folder, which model: candidate, baseline or reference.
        allow_targets: make a potential of one's own, though that runs the code that the file names.

    Raises `ConfigError` saying what the file is and what to do, where it is not such a one.

    Examples:
        model, tokenizer, config = phasebench.load("outputs/2026-11-28/00-09-00.176065")
    """
    place, settings = Path(path).expanduser(), None
    if place.is_dir():
        place, settings = of_run(place, role)
    try:
        with os_errors("path", place, "a file that you may read"):
            file = checkpoint.load(place)
        config = _config(file.configuration, settings)
        if isinstance(own := config.ode.potential, dict) and not allow_targets:
            raise BadCheckpoint(
                f"names code to run, {own['_target_']}: allow_targets, if you know it"
            )
        tokenizer = Tokenizer.from_str(file.tokenizer)
        with torch.random.fork_rng(devices=[]):
            model = build_model(config, tokenizer.get_vocab_size())
        checkpoint.copy_weights(model, file.weights)
    except BadCheckpoint as error:
        start = b""
        if place.is_file():
            with place.open("rb") as stream:
                start = stream.read(4)
        known = (what for begin, what in _FILES.items() if start.startswith(begin))
        raise ConfigError("path", place, next(known, str(error)), _FIX) from error
    return Loaded(model.eval(), tokenizer, config)


def _config(recorded: str, settings: dict[str, Any] | None) -> ModelConfig:
    """Make the configuration of the run, or else the recorded one."""
    if not recorded:
        raise BadCheckpoint("records no configuration: an older phasebench wrote it")
    try:
        return build(ModelConfig, settings or json.loads(recorded)["model"], "model")
    except ConfigError as error:
        problem = f"is of another version of phasebench ({error.key}: {error.problem})"
        raise BadCheckpoint(problem) from error


def of_run(folder: Path, role: str) -> tuple[Path, dict[str, Any]]:
    """Return the file of the weights of a run's model, and the settings of that model.

    Of a folder that ``phasebench export`` wrote, those in it. Raises `ConfigError` for another one.
    """
    if (weights := folder / "model.safetensors").is_file():
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if settings.get("model_type") == "phasebench":
            return weights, settings["model"]
    if not (folder / "results.json").is_file():
        known = (what for name, what in _FOLDERS.items() if (folder / name).is_file())
        raise ConfigError("path", folder, next(known, "holds no results.json"), _FIX)
    results = results_file.load(folder / "results.json")
    config, names = results["config"], []
    models = {"candidate": config["model"]}
    for name, bench in results["benches"].items():
        part = bench["details"].get(role, bench["details"] if role == "candidate" else None)
        names += re.findall(r'"file": "([^"]+)"', json.dumps(part))
        models |= {k: v for k, v in config["bench"].get(name, {}).items() if k == role and v}
    if not names:
        raise ConfigError("path", folder, f"is of a run that trained no {role}", _FIX)
    given = models[role]["checkpoint"]
    file = Path(given or Path(config["cache_dir"], "weights", names[0])).expanduser()
    for base in (Path(), *folder.resolve().parents):
        if (base / file).is_file():
            return base / file, models[role]
    fix = f"run it again: {' '.join(results['overrides'])}"
    raise ConfigError("path", folder, f"its weights {file} are no longer there", fix)
