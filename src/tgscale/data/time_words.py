"""Times in words: dates, spans, and what makes a unit implausible."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Times below this many seconds (1980-01-01) count from the data's own start rather than from 1970.
EARLIEST_DATE = 315_532_800
LONGEST_SPAN = 100 * 365 * 86_400
"""Seconds; data that span more than a century are rather in milliseconds."""
LATEST = 10**11
"""Seconds, in the year 5138; such a number is rather one of milliseconds."""
MOST_SPANS = 100
"""So many spans of the data may go by until what follows it; more is rather another unit."""


def describe_time(first: int, last: int, unit: str) -> dict[str, Any]:
    """First and last time and the span, in words too; see :func:`tgscale.data.summary.summarize`."""
    dated = unit in PER_SECOND and first >= EARLIEST_DATE * PER_SECOND[unit]
    return {
        "unit": unit,
        "first": first,
        "last": last,
        "span": last - first,
        "span_text": _span_text(last - first, unit),
        "first_date": _date(first, unit) if dated else None,
        "last_date": _date(last, unit) if dated else None,
    }


def _span_text(steps: int, unit: str) -> str:
    if unit in PER_SECOND:
        try:
            return str(timedelta(seconds=steps // PER_SECOND[unit]))
        except OverflowError:
            pass
    return f"{steps:,} {unit}"


def _date(time: int, unit: str) -> str | None:
    try:
        return datetime.fromtimestamp(time // PER_SECOND[unit], UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):  # after the year 9999
        return None


def date_of(time: int, unit: str) -> str | None:
    """A time as a date and the time of day in UTC; None where the unit has no dates or it counts from its own start."""
    return _date(time, unit) if unit in PER_SECOND and time >= EARLIEST_DATE * PER_SECOND[unit] else None


def in_words(time: int, unit: str) -> str:
    """A time with its unit, and its date where it has one."""
    date = date_of(time, unit)
    return f"{time} {unit}" + (f", {date}" if date else "")


def _written_date(number: int) -> tuple[str, str] | None:
    """How a number reads as a date of 1900 to 2100, in words and for ``strptime``; None where it does not."""
    for words, form in (("YYYYMMDD", "%Y%m%d"), ("YYYYMMDDHHMMSS", "%Y%m%d%H%M%S")):
        with contextlib.suppress(ValueError):
            if len(str(number)) == len(words) and 1900 <= datetime.strptime(str(number), form).year <= 2100:
                return words, form
    return None


def unit_hint(first: int, last: int, unit: str) -> str | None:
    """What makes the unit of these times implausible, and what to do; None where nothing does."""
    if unit not in PER_SECOND:
        return None
    if unit == "s" and (form := _written_date(first)) and form == _written_date(last):
        query = f"SELECT * REPLACE (strptime(TIME::VARCHAR, '{form[1]}') AS TIME) FROM source"
        return (
            f"the times {first} to {last} look like dates that are written as {form[0]}, and were taken for seconds. "
            f'If they are dates, say so, with their column for TIME: --query "{query}".'
        )
    if last >= LATEST * PER_SECOND[unit]:
        what = f"the last time is {last} {unit}: that is far in the future"
    elif last - first > LONGEST_SPAN * PER_SECOND[unit]:
        what = f"the times span {_span_text(last - first, unit)}: that is more than a century"
    else:
        return None
    units = "--source-time-unit ms --time-unit ms (or us, ns)"
    return f"{what}. If the source counts in milliseconds, import it with {units}."


def gap_hint(first: int, before: tuple[int, int], unit: str) -> str | None:
    """What makes it implausible that rows from ``first`` on follow data of these times, and what to do; or None."""
    start, end = before
    gap = first - end
    if unit not in PER_SECOND or gap <= max(MOST_SPANS * (end - start), 365 * 86_400 * PER_SECOND[unit]):
        return None
    later = _span_text(gap, unit)
    return (
        f"the first time is {first} {unit}, {later} after the last one of the run's data ({end} {unit}). "
        "If the source counts in another unit, say which: --source-time-unit ms (or us, ns)."
    )
