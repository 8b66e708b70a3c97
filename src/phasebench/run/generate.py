"""``phasebench generate RUN TEXT``: text by the trained model of a run, or of a file of weights."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from phasebench.run.errors import refuse


def generate(arguments: Sequence[str]) -> int:
    """Print the text that a trained model goes on with; returns the exit code, 0 or 2."""
    about = "Print how a trained model goes on with a text."
    parser = argparse.ArgumentParser(prog="phasebench generate", description=about)
    parser.add_argument("path", help="the folder of a run, or a file of weights")
    parser.add_argument("text", nargs="?", default="", help="what the model goes on with")
    parser.add_argument("--role", default="candidate", help="of a run: or baseline, or reference")
    parser.add_argument("--allow-targets", action="store_true", help="run a potential's own code")
    parser.add_argument("--tokens", type=int, default=100, help="to add (100)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0.8; 0: most probable")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the draws (0)")
    options = vars(parser.parse_args(arguments))
    place, text = options.pop("path"), options.pop("text")
    which = {name: options.pop(name) for name in ("role", "allow_targets")}
    try:
        from phasebench.training.loading import load  # imports torch, which --help must not

        print(load(place, **which).generate(text, **options))
    except Exception as error:
        return refuse(error)
    return 0
