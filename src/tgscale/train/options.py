"""What the configurations of both engines share: bounds of options, and copies with some of them changed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from tgscale.errors import ConfigError

Config = TypeVar("Config")


def at_least(name: str, value: float | None, least: float) -> None:
    """Refuse a number below ``least``, or one that is not finite; None is no number.

    Raises:
        ConfigError: as said.
    """
    if value is not None and not least <= value < math.inf:
        raise ConfigError(f"{name} is {value}: give {least} or more.")


def replace(config: Config, **changes: object) -> Config:
    """A copy with some fields changed; a dotted field is written with two underscores: ``train__epochs=3``."""
    nested: dict[str, dict[str, object]] = {}
    for name in [name for name in changes if "__" in name]:
        head, _, rest = name.partition("__")
        nested.setdefault(head, {})[rest] = changes.pop(name)
    for head, values in nested.items():
        changes[head] = dataclasses.replace(getattr(config, head), **values)
    copy: Any = dataclasses.replace(config, **changes)  # type: ignore[type-var]
    return copy
