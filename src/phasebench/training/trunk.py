"""One trunk, many budgets: a training begins with the constant part of a shorter one.

With train.schedule=wsd the state of a training, just before its rate decays, depends on no budget.
It is kept beside the weights. A longer training of the same recipe begins with it, so that many
budgets cost little more than the longest one and a short decay for each of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trunk:
    """The kept states of trainings that differ in their budget only.

    Attributes:
        folder: where the states are.
        name: hash of all that determines them: the recipe without its budget, model, text, code.
    """

    folder: Path
    name: str

    @property
    def identity(self) -> dict[str, str]:
        """What a state of this trunk records about itself."""
        return {"trunk": self.name}

    def path(self, step: int) -> Path:
        """Return the file of the state after `step` steps."""
        return self.folder / f"trunk-{self.name[:16]}-{step}.safetensors"

    def steps(self) -> list[int]:
        """List the kept states by their number of steps, in increasing order."""
        files = self.folder.glob(f"trunk-{self.name[:16]}-*.safetensors")
        return sorted(int(file.stem.rpartition("-")[2]) for file in files)

    def latest(self, most: int) -> Path | None:
        """Return the file with the most steps, but no more than `most`; None if there is none."""
        kept = max((step for step in self.steps() if step <= most), default=None)
        return None if kept is None else self.path(kept)

    def forget_before(self, step: int) -> None:
        """Delete the states that a training with a state at `step` no longer needs."""
        for kept in self.steps():
            if kept < step:
                self.path(kept).unlink(missing_ok=True)
