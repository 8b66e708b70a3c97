"""Trained models in EleutherAI's lm-evaluation-harness (Gao et al., https://github.com/EleutherAI/
lm-evaluation-harness): ``python -m phasebench.run.harness --model_args path=RUN --tasks TASK``.

A line break is the mark <eos> that ends a row, as in training.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval import utils  # pyright: ignore[reportMissingImports]
from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]
from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
from lm_eval.api.registry import register_model  # pyright: ignore[reportMissingImports]
from torch.nn.functional import cross_entropy

from phasebench.training.loading import CONTEXT, load

Pair = tuple[list[int], list[int]]  # tokens that are seen, and tokens that are scored


@register_model("phasebench")
class HarnessModel(TemplateLM):
    """The trained model of a run, of a file of weights, or of an exported folder.

    Args:
        path: as of `phasebench.load`.
        role: of a run's folder, which model.
        context: the most tokens that a prediction sees.
        device: where it runs.

    Raises `ConfigError` where there is no such model.
    """

    backend = "causal"

    def __init__(
        self,
        path: str,
        role: str = "candidate",
        context: int = CONTEXT,
        device: str = "cpu",
        **_: Any,  # the harness passes its own options, such as batch_size, to every model
    ) -> None:
        super().__init__()
        self.loaded = load(path, role=role)
        self.loaded.model.to(device)
        self.context = min(int(context), self.loaded.config.positions)

    @property
    def eot_token_id(self) -> int:
        return self.loaded.eos

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Return the tokens of a text; no mark is added. Raises `ConfigError` as `encode` does."""
        return self.loaded.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        return [self._score((seen, scored)) for _, seen, scored in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood in nats of each text, in windows of `context` tokens."""
        return [sum(self._score(pair)[0] for pair in self._windows(*r.args)) for r in requests]

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Return the most probable continuation of each text, up to a stop word of the task."""
        texts = []
        for context, settings in (request.args for request in requests):
            tokens = settings.get("max_gen_toks", 64)
            temperature = settings.get("temperature", 0.0)
            text = self.loaded.generate(context, tokens=tokens, temperature=temperature)
            # words that the vocabulary lacks, and blanks, are not those of the context any more
            text = text[len(self.loaded.decode(self.loaded.encode(context))) :]
            for stop in settings.get("until", []):
                text = text.partition(stop)[0]
            texts.append(text)
        return texts

    def _windows(self, text: str) -> Iterator[Pair]:
        pairs = utils.get_rolling_token_windows(
            self.tok_encode(text), self.prefix_token_id, self.context, 1
        )
        return map(utils.make_disjoint_window, pairs)

    @torch.no_grad()
    def _score(self, pair: Pair) -> tuple[float, bool]:
        """Return the log-likelihood of the scored tokens, and whether each is the most probable."""
        seen, scored = pair
        model = self.loaded.model
        tokens = torch.tensor([*seen, *scored][-self.context - 1 :], device=model.head.device)
        logits = model(tokens[None, :-1])[0, -len(scored) :].double()
        wanted = tokens[-len(logits) :]
        greedy = bool((logits.argmax(-1) == wanted).all())
        return -cross_entropy(logits, wanted, reduction="sum").item(), greedy


if __name__ == "__main__":
    sys.argv[1:1] = ["run", "--model", "phasebench"]
    cli_evaluate()
