"""A configuration's field with its description and checks, and the error for a value that fails."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from functools import partial
from typing import Any


class ConfigError(ValueError):
    """A value that cannot be used: its dotted key, what was received, the problem and the fix."""

    def __init__(self, key: str, value: object, problem: str, fix: str = "") -> None:
        self.key, self.value, self.problem, self.fix = key, value, problem, fix
        message = f"{key}={value}: {problem}" if key else problem
        super().__init__(message + (f"\n  fix: {fix}" if fix else ""))


def spec(default: Any = dataclasses.MISSING, about: str = "", **checks: Any) -> Any:
    """Describe a dataclass's field: its default, what it is and its unit, and the values it takes.

    The checks, of a list's every entry: ``low`` and ``high`` (inclusive bounds), ``above`` (an
    exclusive one), ``choices``, ``prefix`` (of further choices), ``empty`` (the list may be empty),
    ``path`` (of a file or folder; a ``~`` is expanded by whoever reads it).
    A default that is a class is a group of keys, which the docstring of the class describes.
    """
    metadata = {"about": about, **checks}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


count = partial(spec, low=1)  # of a whole number
positive = partial(spec, above=0.0)
probability = partial(spec, 0.0, low=0.0, high=0.95)
limit = partial(positive, None)  # of a gate that is judged where a limit is given
random_seeds = partial(spec, None, low=0, high=2**63 - 1)
