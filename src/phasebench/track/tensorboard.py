"""TensorBoard: scalars, and the parameters beside them in its HPARAMS tab, in the run's folder."""

from __future__ import annotations

from pathlib import Path

from phasebench.progress import summary_writer
from phasebench.track.facts import Facts


def log(facts: Facts, folder: Path) -> str:
    """Write event files to FOLDER/tensorboard."""
    place = folder / "tensorboard"
    writer = summary_writer()(str(place))
    try:
        writer.add_hparams(facts.parameters, facts.metrics | facts.gates, run_name=".")
        for name, text in facts.tags.items():
            writer.add_text(name, text)
    finally:
        writer.close()
    return str(place)
