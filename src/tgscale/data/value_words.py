"""What is wrong with one value of a source, in words, and what may have been meant."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from tgscale.data.edge_rows import MOST_RELATIONS
from tgscale.data.formats.source import FILE_COLUMN, Source, sql_name
from tgscale.data.staging import Staged, Times

OTHER_WORDS = {
    "edge_type": f"is not an integer from 0 to {MOST_RELATIONS - 1}",
    "until": "is not an integer that is at least the interval's first snapshot",
    "weight": "is not a finite 32-bit number",
}
NOT_INTEGER = {
    "first": " like those before it (for ids that are text, pass --ids text)",
    "format": ", which those of this source have to be",
    "option": ", which --ids int asks for (for ids that are text, pass --ids text)",
    "before": ", as those of the run's data are",
}
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


@dataclass(frozen=True)
class Rules:
    """What rows are held to.

    Attributes:
        times: units.
        ids: whose word it is that ids are integers: ``"first"`` (of the first rows), ``"format"``, ``"option"``
            (``--ids int``), or ``"before"`` (the nodes that these rows are about).
        classes: events may be given classes (``--edge-classes``).
    """

    times: Times
    ids: str = "first"
    classes: bool = False


def counted(number: int, what: str, several: str | None = None) -> str:
    """A number of things: ``1 row``, ``2 rows``."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def in_words(part: str, place: str, row: dict[str, Any], staged: Staged, rules: Rules) -> str:
    """Where a bad value of a row stands, what it is and what is wrong with it."""
    if staged.source.format == "json" and all(row[name] is None for name in row if name not in (FILE_COLUMN, "__row")):
        return f"{place}: the line holds no JSON object."
    if part == "edge_features":
        return f"{place}, {_feature_words(row, staged)}"
    if part == "edge_classes":
        return f"{place}, {_class_words(row, staged.columns.edge_classes)}"
    column = str(staged.source.edge_row if part == "edge_row" else getattr(staged.columns, part))
    value = row[column]
    if value is None:
        what = "is missing"
    elif part == "time":
        what = _time_words(value, rules.times, staged.dated, column)
    elif part == "split":
        what = "is not 0 (train), 1 (val) or 2 (test)"
    elif part in ("src", "dst"):
        what = _id_words(value, staged.source, rules)
    elif part in OTHER_WORDS:
        what = OTHER_WORDS[part]
    else:
        what = "is not an integer"
    return f"{place}, column {column!r} ({part}): {_shown(value)} {what}."


def _shown(value: Any) -> str:
    return "the value" if value is None else repr(value) if isinstance(value, str) else str(value)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _moment(value: Any) -> date | None:
    if not isinstance(value, str):
        return value if isinstance(value, date) else None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _time_words(value: Any, times: Times, dated: bool, column: str) -> str:
    number = _number(value)
    moment = _moment(value)
    if number is None and moment is None:
        words = "is neither a number nor a date such as 2024-02-01 or 2024-02-01 12:30:00"
        if not re.match(r"\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b", str(value)):
            return words
        form = "%d.%m.%Y" + (" %H:%M" if ":" in str(value) else "")
        cure = _reading(column, f"strptime({{}}, '{form}')")
        return f"{words}; where all are dates of one form, name that: {cure}"
    if number is None:
        if not dated:
            return "is a date, and most of the column are numbers"
        early = moment is not None and moment.year < 1970
        return "lies before 1970: shift the times" if early else f"has a fraction of a {times.unit}: {_finer(times)}"
    if dated:
        return "is a number, and most of the column are dates"
    if math.isnan(number):
        return "is not a number"
    if number < 0:
        return "is negative: shift the times so that they start at 0 or later"
    if number * times.scale < 2**63:
        return f"has a fraction that time unit {times.unit!r} cannot hold: {_finer(times)}"
    return f"does not fit into 64 bits in time unit {times.unit!r}"


def _finer(times: Times) -> str:
    finer = {"s": "ms, us or ns", "ms": "us or ns", "us": "ns"}.get(times.unit)
    return f"choose a finer one with --time-unit {finer}" if finer else "round it"


def _id_words(value: Any, source: Source, rules: Rules) -> str:
    number = _number(value)
    zeros = isinstance(value, str) and source.ids == "auto" and re.match(r"\s*[+-]?0[0-9]", value)
    if number is None or not number.is_integer() or zeros:
        return f"is not an integer id{NOT_INTEGER[rules.ids]}"
    if source.node_table is not None:
        return f"lies outside the {len(source.node_table)} rows of the node features"
    if source.first_id is not None and number < source.first_id:
        return f"is out of range: ids of format {source.format} start at {source.first_id}"
    return "does not fit into 64 bits (for ids that are text, pass --ids text)"


def _class_words(row: dict[str, Any], names: tuple[str, ...]) -> str:
    if len(names) == 1:
        found = "the list is missing" if row[names[0]] is None else f"{row[names[0]]} has a class that is missing"
        return f"column {names[0]!r} (edge_classes): {found}; an event without classes has an empty list."
    for name in names:
        if _number(row[name]) not in (0, 1):
            what = "is missing" if row[name] is None else "is not 0 or 1"
            return f"column {name!r} (edge_classes): {_shown(row[name])} {what}."
    return "column of edge classes cannot be read."


def _feature_words(row: dict[str, Any], staged: Staged) -> str:
    names = staged.columns.edge_features
    if not names:
        return "edge features: its row of the feature table is missing, or has a value that is not finite"
    if staged.list_width is not None:
        values = row[names[0]]
        found = "no list" if values is None else f"{len(values)} values"
        if values is None or len(values) != staged.list_width:
            return f"column {names[0]!r} (edge_features): {found}, the first row has {staged.list_width}."
        pairs = [(f"{names[0]}[{i}]", value) for i, value in enumerate(values)]
    else:
        pairs = [(name, row[name]) for name in names]
    for name, value in pairs:
        number = _number(value)
        if value is None:
            filled = _reading(name, "coalesce({}, '0')")
            return f"column {name!r} (edge_features): the value is missing; fill it, by 0 for instance: {filled}."
        if number is None or not abs(number) < 3.4028236e38:
            what = "is not a number" if number is None or math.isnan(number) else "is not a finite 32-bit number"
            return f"column {name!r} (edge_features): {_shown(value)} {what}."
    return "column of edge features cannot be read."


def hint_of(part: str, row: dict[str, Any], staged: Staged, rules: Rules, mostly: bool) -> str:
    """What to do about the text in a row where a number is expected; ``mostly``: most rows have such a fault."""
    names = staged.columns.edge_features if part == "edge_features" else (getattr(staged.columns, part, None),)
    wrong = (name for name in names if name in row and isinstance(row[name], str) and _number(row[name]) is None)
    name = next(wrong, None)
    if name is None or part in ("src", "dst"):
        return ""
    if DECIMAL_COMMA.fullmatch(row[name]):
        return f" Where a comma stands for a decimal point: {_reading(name, '''replace({}, ',', '.')''')}."
    if mostly and rules.classes and part in ("label", "edge_features"):
        return f" For classes named by text: --edge-classes {shlex.quote(name)}."
    return ""


def _reading(name: str, how: str) -> str:
    """The option by which a column is read otherwise: SQL with ``{}`` for the column."""
    column = name if name.isidentifier() else sql_name(name).replace('"', '\\"')
    return f'--query "SELECT * REPLACE ({how.format(column)} AS {column}) FROM source"'
