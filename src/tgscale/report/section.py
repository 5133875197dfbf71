"""What a report is made of: sections with words, tables, drawings, and the figures behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tgscale.report.drawing import Drawing


@dataclass
class Table:
    """A table of words.

    Attributes:
        columns: headings; the first column names the rows.
        rows: as many words each.
        strong: numbers of the rows that are set in bold.
        caption: what stands above it.
        words: whether all columns hold words, which are set at the left; otherwise numbers, at the right.
    """

    columns: list[str]
    rows: list[list[str]]
    strong: set[int] = field(default_factory=set)
    caption: str = ""
    words: bool = False


@dataclass
class Section:
    """A part of the report.

    Attributes:
        name: short, for links and JSON.
        title: heading.
        lead: a sentence or two below it.
        drawings, tables: shown in this order.
        notes: below them, about what is shown.
        missing: what the runs do not hold, and how it comes to be there; said at the end of the page.
        figures: plain values that say the same in numbers.
    """

    name: str
    title: str
    lead: str = ""
    drawings: list[Drawing] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.drawings or self.tables or self.notes)


def number(value: float | None, digits: int = 4) -> str:
    """A metric in words; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001


def amount(value: float) -> str:
    """A count or rate in words, with thousands set apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
