"""What a training minimises instead of the mean cross-entropy of all tokens.

Legend: y logits of a token, t its target; c = ln sum_v e^{y_v}; mean = sum_v p_v y_v with
p = e^{y - c}. Surprisal is c - y_t and entropy c - mean. Their difference, the excess mean - y_t,
has the mean 0 for a calibrated model: it tells a token that can be learned from one that cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phasebench.data.batches import IGNORED


@dataclass(frozen=True)
class Objective:
    """The margin of the target's logit, which tokens are scored, and how smooth targets are.

    Attributes:
        margin: eps of y_t - eps |e_t| |z|, the least logit of the target where its row e_t may move
            by eps |e_t| (Wang, Gong & Liu 2019, arXiv 1906.03805).
        score: by which tokens are ranked, largest first; "off": all are scored.
        keep: fraction of the tokens, down to which a rank is scored.
        noise: fraction of the tokens, from which on a rank is scored.
        smoothing: a of the target's logit (1 - a) y_t + a mean_v y_v (Szegedy et al. 2016, arXiv
            1512.00567); not with a margin.
    """

    margin: float = 0.0
    score: str = "off"
    keep: float = 1.0
    noise: float = 0.0
    smoothing: float = 0.0

    @property
    def reads_mean(self) -> bool:
        """Whether ranks depend on the mean logit."""
        return self.score in ("excess", "entropy")

    def ranks(self, tokens: int) -> tuple[int, int]:
        """Return the first rank that is scored and the first one after it that is not."""
        first = round(self.noise * tokens)
        return first, max(first + 1, round(self.keep * tokens))

    def scored(self, targets: Int[Tensor, "..."]) -> Int[Tensor, ""]:
        """Count the targets that are scored. Ranks that are left for those of -100 are lost."""
        known = (targets != IGNORED).sum()
        if self.score == "off":
            return known
        first, last = self.ranks(targets.numel())
        return known.clamp(first, last) - first

    def choose(
        self,
        targets: Int[Tensor, " N"],
        c: Float[Tensor, "N 1"],
        at_target: Float[Tensor, "N 1"],
        mean: Float[Tensor, "N 1"] | None,
    ) -> Int[Tensor, " kept"] | None:
        """Return the places of the scored tokens; None: all.

        Their number depends on N alone, as a CUDA graph needs it. Of equals the earlier one ranks
        higher. Random ranks are drawn from the generator that each step seeds anew.
        """
        if self.score == "off":
            return None
        if self.score == "random":
            value = torch.rand_like(c)
        elif mean is None:  # surprisal
            value = c - at_target
        else:
            value = c - mean if self.score == "entropy" else mean - at_target
        value = torch.where(targets == IGNORED, -torch.inf, value[:, 0])
        first, last = self.ranks(len(value))
        return value.sort(descending=True, stable=True).indices[first:last]


PLAIN = Objective()
