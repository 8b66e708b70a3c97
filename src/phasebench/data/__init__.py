"""Text as streams of token ids: where it comes from, how it is tokenised, how it is cut into
batches.
"""

from __future__ import annotations

from phasebench.data.batches import (
    IGNORED,
    Window,
    scoring_batches,
    steps_of,
    training_batch,
    windows,
)
from phasebench.data.corpus import Corpus, Split, load_corpus
from phasebench.data.synthetic import SyntheticSource

__all__ = [
    "IGNORED",
    "Corpus",
    "Split",
    "SyntheticSource",
    "Window",
    "load_corpus",
    "scoring_batches",
    "steps_of",
    "training_batch",
    "windows",
]
