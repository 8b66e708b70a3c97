"""TensorBoard: scalars, and the parameters beside them in its HPARAMS tab, in the run's folder."""

from __future__ import annotations

from pathlib import Path

from phasebench.report.trackers.facts import Facts


def log(facts: Facts, folder: Path) -> str:
    """Write event files to FOLDER/tensorboard."""
    from torch.utils.tensorboard import SummaryWriter  # torch is imported by this tracker only

    place = folder / "tensorboard"
    writer = SummaryWriter(str(place))
    try:
        writer.add_hparams(facts.parameters, facts.metrics | facts.gates, run_name=".")
        for name, text in facts.tags.items():
            writer.add_text(name, text)
    finally:
        writer.close()
    return str(place)
