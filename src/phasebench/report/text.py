"""Write values and foreign text for people: rounded numbers, no codes that move a terminal's
cursor.
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

VERDICTS = {True: "pass", False: "FAIL", None: "not measured"}
# ECMA-48: a control sequence (CSI), an operating system command (OSC), or another escape
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def number(value: Any) -> str:
    """Round a float to 4 significant digits; counts stay whole, null becomes ``-``."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else clean(str(value))


def clean(text: str) -> str:
    """Remove escape codes from text of a user or an error, and replace other control characters.

    Examples:
        >>> clean("\\x1b[31mred\\x1b[0m\\a")
        'red\ufffd'
    """
    if text.isprintable():
        return text
    shown = _ESCAPE.sub("", text)
    return "".join(
        c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in shown
    )


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value can be plotted and compared; true and false cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool)
