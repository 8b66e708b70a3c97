"""The command ``python -m phasebench.report.compare``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from phasebench.config import ConfigError
from phasebench.report.compare.limits import Limit
from phasebench.report.compare.outcome import outcome
from phasebench.report.compare.show import show
from phasebench.report.summary import clean
from phasebench.results.jsonfile import dumps

ALLOWED = ("data", "device", "broken")
_EXAMPLES = """\
examples:
  python -m phasebench.report.compare last_week/results.json outputs/2026-11-22/20-17-07.387407
  python -m phasebench.report.compare outputs/sweeps/base outputs/sweeps/new --fail ppl_ratio:+2% --fail max_drift:+10%
  python -m phasebench.report.compare base new --fail vram_reduction_pct:-1 --allow device --json

A limit is METRIC:+2% (fails if NEW is more than 2 % above BASE), METRIC:-5% (more than 5 % below) or METRIC:+0.1 (above
by more than 0.1). Points are matched by configuration; runs that differ in their seed only, or in nothing, are repeats.
Where both sides have repeats, a difference must also be beyond their spread: Welch's t-test, p below --alpha.

exit code: 0 no limit is broken, 1 one is, 2 the comparison is not valid
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two sets of results; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        found = outcome(
            options.base,
            options.new,
            [Limit.parse(text) for text in options.fail],
            allow=_allowed(options.allow),
            ignore=options.ignore,
            alpha=_alpha(options.alpha),
            fail_gone=options.fail_gone,
        )
    except ConfigError as error:
        print(f"phasebench.report.compare: {clean(str(error))}", file=sys.stderr)
        return 2
    if options.json:
        print(dumps(found.as_dict()))
    else:
        show(found, Console(highlight=False), everything=options.all)
    return found.exit_code


def _allowed(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in ALLOWED:
            raise ConfigError(
                "--allow", name, f"unknown; choices: {', '.join(ALLOWED)}", "--allow data,device"
            )
    return names


def _alpha(value: float) -> float:
    if not 0 < value < 1:
        raise ConfigError("--alpha", value, "is no probability between 0 and 1", "--alpha 0.05")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m phasebench.report.compare",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
        description="Compare two sets of results point by point; a gate for continuous integration.",
    )
    parser.add_argument(
        "base", type=Path, metavar="BASE", help="a results.json, or a folder with some below it"
    )
    parser.add_argument("new", type=Path, metavar="NEW", help="likewise")
    parser.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="METRIC:LIMIT",
        help="a limit; may be repeated",
    )
    parser.add_argument(
        "--fail-gone", action="store_true", help="a point of BASE that NEW lacks is a regression"
    )
    parser.add_argument(
        "--allow", default="", metavar="WHAT", help=f"compare in spite of: {', '.join(ALLOWED)}"
    )
    ignore = "a configuration key, or group, that does not tell points apart; may be repeated"
    parser.add_argument("--ignore", action="append", default=[], metavar="KEY", help=ignore)
    parser.add_argument(
        "--alpha", type=float, default=0.05, metavar="P", help="of the test; default 0.05"
    )
    parser.add_argument(
        "--all", action="store_true", help="show every metric, not only those with a limit"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
