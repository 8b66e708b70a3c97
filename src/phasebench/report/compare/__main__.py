"""The command ``python -m phasebench.report.compare``, or ``phasebench-compare``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from phasebench.config import ConfigError
from phasebench.report.compare.show import show
from phasebench.report.compare.verdict import Limit, compare
from phasebench.report.text import clean
from phasebench.results.jsonfile import dumps

ALLOWED = ("data", "device", "broken")
_EXAMPLES = """\
examples:
  phasebench-compare last_week/results.json outputs/2026-11-22/20-17-07.387407
  phasebench-compare outputs/sweeps/base outputs/sweeps/new --fail max_drift:+10%
  phasebench-compare base new --fail vram_reduction_pct:-1 --allow device --json
  python -m phasebench.report.compare outputs/sweeps/base outputs/sweeps/new     (the same command)

A limit is METRIC:+2% (fails if NEW is more than 2 % above BASE), METRIC:-5% (more than 5 % below)
or METRIC:+0.1 (above by more than 0.1). Points are matched by configuration; runs that differ in
their seed only, or in nothing, are repeats. Where both sides have repeats, a difference must also
be beyond their spread: Welch's t-test, p below --alpha.

exit code: 0 no limit is broken, 1 one is, 2 the comparison is not valid
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two sets of results; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if not 0 < options.alpha < 1:
            what = "is no probability between 0 and 1"
            raise ConfigError("--alpha", options.alpha, what, "--alpha 0.05")
        allowed = [name for name in options.allow.split(",") if name]
        for name in allowed:
            if name not in ALLOWED:
                what = f"unknown; choices: {', '.join(ALLOWED)}"
                raise ConfigError("--allow", name, what, "--allow data,device")
        outcome = compare(
            options.base,
            options.new,
            [Limit.parse(text) for text in options.fail],
            allow=allowed,
            ignore=options.ignore,
            alpha=options.alpha,
            fail_gone=options.fail_gone,
        )
    except ConfigError as error:
        print(f"phasebench.report.compare: {clean(str(error))}", file=sys.stderr)
        return 2
    if options.json:
        print(dumps(dataclasses.asdict(outcome)))
    else:
        show(outcome, Console(highlight=False), everything=options.all)
    return outcome.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phasebench-compare",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
        description="Compare two sets of results point by point: a gate for CI.",
    )
    add = parser.add_argument
    one = "a results.json, or a folder with some below it"
    add("base", type=Path, metavar="BASE", help=one)
    add("new", type=Path, metavar="NEW", help="likewise")
    limit = "a limit; may be repeated"
    add("--fail", action="append", default=[], metavar="METRIC:LIMIT", help=limit)
    gone = "a point of BASE that NEW lacks is a regression"
    add("--fail-gone", action="store_true", help=gone)
    allow = f"compare in spite of: {', '.join(ALLOWED)}"
    add("--allow", default="", metavar="WHAT", help=allow)
    ignore = "a configuration key, or group, that does not tell points apart; may be repeated"
    add("--ignore", action="append", default=[], metavar="KEY", help=ignore)
    add("--alpha", type=float, default=0.05, metavar="P", help="of the test; default 0.05")
    every = "show every metric, not only those with a limit"
    add("--all", action="store_true", help=every)
    add("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
