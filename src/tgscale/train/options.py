"""What the configurations of both engines share: bounds of options, and copies with some of them changed."""

from __future__ import annotations

import dataclasses
import difflib
import math
from typing import Any, TypeVar

from tgscale.errors import ConfigError

Config = TypeVar("Config")


def at_least(name: str, value: float | None, least: float) -> None:
    """Refuse what is no number, a number below ``least``, or one that is not finite; None stands for none given.

    Raises:
        ConfigError: as said.
    """
    if value is not None and not isinstance(value, int | float):
        raise ConfigError(f"{name} is {value!r}, which is no number: give {least} or more.")
    if value is not None and not least <= value < math.inf:
        raise ConfigError(f"{name} is {value}: give {least} or more.")


def leave_something(name: str, value: float, other_name: str, other: float) -> None:
    """Refuse two shares that leave nothing for a third part, or one of which is nothing, or NaN.

    Raises:
        ConfigError: as said.
    """
    if not (value > 0 and other > 0 and value + other < 1):
        raise ConfigError(
            f"{name} {value} and {other_name} {other} must both be above 0 and leave something to train on."
        )


def replace(config: Config, **changes: object) -> Config:
    """A copy with some fields changed; a dotted field is written with two underscores: ``train__epochs=3``.

    Raises:
        ConfigError: there is no such field, or it cannot have that value.
    """
    nested: dict[str, dict[str, object]] = {}
    for name in [name for name in changes if "__" in name]:
        head, _, rest = name.partition("__")
        nested.setdefault(head, {})[rest] = changes.pop(name)
    for head, values in nested.items():
        _refuse_unknown(config, {head: None}, "")
        _refuse_unknown(getattr(config, head), values, f"{head}__")
        changes[head] = dataclasses.replace(getattr(config, head), **values)
    _refuse_unknown(config, changes, "")
    copy: Any = dataclasses.replace(config, **changes)  # type: ignore[type-var]
    return copy


def _refuse_unknown(config: Any, changes: dict[str, Any], before: str) -> None:
    known = [each.name for each in dataclasses.fields(config) if each.init]
    for name in changes:
        if name not in known:
            raise ConfigError(f"option {before}{name} is unknown. {nearest(name, known, before)}")


def nearest(name: str, names: list[str], prefix: str) -> str:
    """What to say to a name that is none of ``names``: the one most like it, or all of them."""
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    return f"There are: {', '.join(names)}."
