"""A configuration's field with its checks, and the error for a value that fails them."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any


class ConfigError(ValueError):
    """A value that cannot be used: names the dotted key, the value received, the valid choices and the fix."""

    def __init__(self, key: str, value: object, problem: str, fix: str = "") -> None:
        self.key, self.value, self.problem, self.fix = key, value, problem, fix
        message = f"{key}={value}: {problem}" if key else problem
        super().__init__(message + (f"\n  fix: {fix}" if fix else ""))


def spec(default: Any = dataclasses.MISSING, **checks: Any) -> Any:
    """A dataclass field with its checks: ``low``/``above`` (inclusive/exclusive bound), ``high``, ``choices``; of a
    list's entries, which may be none where ``empty``."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=checks)
    return field(default=default, metadata=checks)
