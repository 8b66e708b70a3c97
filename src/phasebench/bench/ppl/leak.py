"""Does a model see the future? Changing one token must leave all logits before it as they were."""

from __future__ import annotations

import torch
from torch import Tensor

from phasebench.models import LanguageModel
from phasebench.training import scoring as evaluation

# changed, one at a time, evenly spread over the sequence; the last token is one of them
POSITIONS = 8


def leak(model: LanguageModel, tokens: Tensor) -> float:
    """The largest change of a logit at t' < t when token t is changed, of the largest logit; 0:
    none, bit for bit.

    tokens has shape (T,) with T >= 2.  Raises ArithmeticError if a change reaches no logit at its
    own place either: the test would then say nothing.
    """
    length = len(tokens)
    places = sorted({max(1, (i + 1) * length // POSITIONS - 1) for i in range(POSITIONS)})
    with evaluation.mode(model, training=False), torch.no_grad():
        before = model(tokens[None])[0]
        worst = 0.0
        for t in places:
            other = tokens.clone()
            other[t] = (other[t] + 1) % before.shape[-1]
            after = model(other[None])[0]
            if torch.equal(after[t], before[t]):
                raise ArithmeticError(
                    f"the model does not read token {t}: its logits there ignore it"
                )
            worst = max(worst, (after[:t] - before[:t]).abs().max().item())
    return worst / before.abs().max().item()
