"""Which column of a source plays which part: by the caller's word, the format's, or its usual name."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from tgscale.data.formats.source import FILE_COLUMN, Columns
from tgscale.errors import DataError

USUAL = {
    "src": ("src", "source", "u", "user", "user_id", "from", "from_id", "sender", "head", "node1"),
    "dst": ("dst", "destination", "target", "i", "item", "item_id", "v", "to", "to_id", "receiver", "tail", "node2"),
    "time": ("time", "t", "ts", "timestamp", "datetime", "date"),
    "label": ("label", "state_label"),
}

ENDS = ("src", "dst", "time")
"""Roles that every source has."""
ROLES = (*ENDS, "label", "split", "weight", "edge_type", "until")
"""Roles of one column each."""


def choose_columns(
    given: Columns, known: Columns, present: Iterable[str], where: str, before: Mapping[str, Any] | None = None
) -> Columns:
    """Settle the part of each column.

    Args:
        given: what the caller said; it comes first. An empty ``dst`` or ``label`` means that there is none.
        known: what the format knows.
        present: columns of the source.
        where: the source's name, for messages.
        before: names by part that an earlier source had; they count where they are there and nobody said otherwise.

    Returns:
        Columns whose ``edge_features`` are names, no patterns any more.

    Raises:
        DataError: a column that was named is missing, or none with a usual name is there.
    """
    if given.label == "":
        given, known = replace(given, label=None), replace(known, label=None)
        present = [name for name in present if name.lower() not in USUAL["label"]]
    names = [name for name in present if name != FILE_COLUMN]
    known = replace(known, **_there(before or {}, known, names))
    classes = _matching(given.edge_classes, names, where, "--edge-classes")
    if classes and not given.label:  # a column that merely has the usual name of labels is not what was asked for
        given, known = replace(given, label=None), replace(known, label=None)
        names_of_labels = [name for name in names if name.lower() not in USUAL["label"]]
    else:
        names_of_labels = names
    if given.weight == "auto":
        given = replace(given, weight=next((name for name in names if name.lower() == "weight"), None))

    named = {role: name for role in ROLES if (name := getattr(given, role) or getattr(known, role))}

    def pick(role: str) -> str | None:
        among = names_of_labels if role == "label" else names
        others = {name for other, name in named.items() if other != role}
        return _one(role, named.get(role), among, others, where)

    dst = None if given.dst == "" else pick("dst")
    settled = Columns(pick("src"), dst, pick("time"), pick("label"), pick("split"))
    lacking = [role for role in ENDS if not getattr(settled, role) and getattr(given, role) != ""]
    _refuse_missing(lacking, names, where, before or {})
    settled = replace(settled, weight=pick("weight"), edge_type=pick("edge_type"), until=pick("until"))
    taken = {settled.src, settled.dst, settled.time, settled.label, settled.split, *classes}
    patterns = given.edge_features or known.edge_features
    return replace(settled, edge_features=_features(patterns, names, taken, where), edge_classes=classes)


def _there(before: Mapping[str, Any], known: Columns, names: list[str]) -> dict[str, Any]:
    """What of an earlier source's columns is there, where the format does not know better."""
    found = {}
    for role, value in before.items():
        wanted = [value] if isinstance(value, str) else list(value)
        if not getattr(known, role) and all(name in names for name in wanted):
            found[role] = value if isinstance(value, str) else tuple(value)
    return found


def _one(role: str, wanted: str | None, names: list[str], others: set[str], where: str) -> str | None:
    if wanted is not None:
        if wanted not in names:
            hint = _no_heading(names) or _hint(wanted, [name for name in names if name not in others])
            raise DataError(f"{where} has no column {wanted!r} for {role}; it has {_listed(names)}.{hint}")
        return wanted
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[usual] for usual in USUAL.get(role, ()) if usual in by_lower), None)


def _no_heading(names: list[str]) -> str:
    """What to do where what stands for names of columns is the first row: a number or a date is among them."""
    for name in names:
        for reads in (float, datetime.fromisoformat):
            with contextlib.suppress(ValueError):
                reads(name)
                return f" The first line looks like a row of data ({name}): put a line of names above it."
    return ""


def _refuse_missing(roles: list[str], names: list[str], where: str, before: Mapping[str, Any]) -> None:
    """Refuse a source in which nothing has the usual name of these roles, all at once."""
    if not roles:
        return
    looks = " and none like ".join(f"{role} ({', '.join(USUAL[role][:5])}, ..)" for role in roles)
    options = " ".join(f"--{role} NAME" for role in roles)
    which = "which one it is" if len(roles) == 1 else "which they are"
    earlier = [f"{role} from {before[role]!r}" for role in roles if before.get(role)]
    more = f" (The data of the run had {', '.join(earlier)}.)" if earlier else ""
    raise DataError(
        f"{where} has no column that looks like {looks}; it has {_listed(names)}. Say {which}: {options}."
        + (_no_heading(names) or more)
    )


def _features(patterns: tuple[str, ...], names: list[str], taken: set[str | None], where: str) -> tuple[str, ...]:
    matching = _matching(patterns, names, where, "--edge-features")
    return tuple(name for name in matching if name not in taken or name in patterns)


def _matching(patterns: tuple[str, ...], names: list[str], where: str, option: str) -> tuple[str, ...]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = _hint(pattern, names)
            raise DataError(f"{where} has no column {pattern!r} for {option}; it has {_listed(names)}.{hint}")
    return tuple(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def _hint(wanted: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wanted, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def unused_columns(columns: Columns, present: Iterable[str], no_label: bool) -> list[str]:
    """Columns of a source that play no part; with ``no_label``, those of labels were not wanted and do not count."""
    names = [getattr(columns, role) for role in ROLES]
    taken = {*names, *columns.edge_features, *columns.edge_classes, FILE_COLUMN}
    unwanted = USUAL["label"] if no_label else ()
    return [name for name in present if name not in taken and name.lower() not in unwanted]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f", .. ({len(names)} in all)" if len(names) > 12 else "")
