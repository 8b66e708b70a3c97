"""The keys of the configuration."""

from __future__ import annotations

import dataclasses

from phasebench.config import ModelConfig
from phasebench.config.validation import field_types


def leaves(cls: type, at: str = "") -> list[str]:
    """The dotted keys of a dataclass whose values are no groups."""
    found = []
    for name, kind in field_types(cls).items():
        if dataclasses.is_dataclass(kind) and not (kind is ModelConfig and at):
            found += leaves(kind, f"{at}{name}.")  # type: ignore[arg-type]
        elif f"{at}{name}" != "bench":
            found.append(f"{at}{name}")
    return found
