"""From events to steps: which snapshot an event falls into.

The table ``events`` has ``src``, ``dst`` (node numbers), ``time``, ``place`` (order of the source) and whatever else an
edge carries. :func:`cut` says, in SQL, which step each event belongs to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from tgscale.data.staging import UNITS
from tgscale.data.time_words import in_words
from tgscale.errors import ConfigError, DataError

MOST_STEPS = 1_000_000
SPANS = {"w": 604_800, "d": 86_400, "h": 3_600, "min": 60, "m": 60, "s": 1}
HOW = "--snapshots COLUMN, --every 1d, --events-per-snapshot N or --intervals FIRST,LAST"


@dataclass(frozen=True)
class Cut:
    """How events become snapshots; one of the four is set.

    Attributes:
        snapshots: the column that numbers the snapshots.
        every: length of a time window: a number and a unit (``w``, ``d``, ``h``, ``min``, ``s``, ``ms``, ``us``,
            ``ns``), or a number in the unit of the data.
        events_per_snapshot: events in a snapshot, in time order; the last one may have fewer.
        intervals: two columns, with a comma: the first and the last snapshot in which an edge stands.

    Raises:
        ConfigError: none or more than one is set, or it cannot be used.
    """

    snapshots: str | None = None
    every: str | int | None = None
    events_per_snapshot: int | None = None
    intervals: str | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) != 1:
            what = "none of them was given" if not given else " and ".join(given) + " were given"
            raise ConfigError(f"say how events become snapshots, in one way: {HOW}; {what}.")
        if self.events_per_snapshot is not None and self.events_per_snapshot < 1:
            raise ConfigError(f"--events-per-snapshot is {self.events_per_snapshot}: give at least 1.")
        if self.intervals is not None and len(self.interval_columns) != 2:
            raise ConfigError(f"--intervals {self.intervals!r} is not two columns: give them as FIRST,LAST.")

    @property
    def interval_columns(self) -> list[str]:
        return [name.strip() for name in (self.intervals or "").split(",") if name.strip()]

    @property
    def until_column(self) -> str | None:
        """The column of the last snapshot of an interval, when there is one."""
        return self.interval_columns[1] if self.intervals else None

    @property
    def time_column(self) -> str | None:
        """The column that numbers the snapshots, when there is one."""
        return self.interval_columns[0] if self.intervals else self.snapshots

    def window(self, unit: str) -> int:
        """Length of the window of ``every`` in ``unit``.

        Raises:
            ConfigError: not a length, or one that the unit cannot hold.
        """
        match = re.fullmatch(r"\s*(\d+)\s*([a-z]*)\s*", str(self.every))
        if match is None or int(match[1]) == 0 or match[2] not in ("", *SPANS, *UNITS):
            raise ConfigError(
                f"--every {self.every!r} is no length of time: give one such as 1w, 1d, 6h, 30min or 3600; for "
                "months, number them in a column: --snapshots COLUMN."
            )
        amount, given = int(match[1]), match[2]
        if not given:
            return amount
        if unit == "step":
            raise ConfigError(f"--every {self.every!r}: the data has time unit 'step', so give a number, such as 100.")
        ticks, per = amount * SPANS.get(given, 1) * UNITS[unit], UNITS.get(given, 1)
        if ticks % per:
            raise ConfigError(f"--every {self.every!r} is no whole number of {unit}: import with --time-unit {given}.")
        return ticks // per


@dataclass(frozen=True)
class Steps:
    """Steps of the events of one source.

    Attributes:
        sql: SQL of an event's step, from ``time`` and ``position`` (0, 1, .. in time order).
        until_sql: SQL of the last step in which it stands, or None: it stands in one.
        count: number of steps.
        time: int64 ``[count]``, start of each step.
        about: what ``meta.json`` says of it.
        hint: what looks odd.
    """

    sql: str
    until_sql: str | None
    count: int
    time: np.ndarray
    about: dict[str, Any]
    hint: str | None = None


def cut(db: duckdb.DuckDBPyConnection, how: Cut, events: str, unit: str) -> Steps:
    """Lay out the steps of a relation that has ``time``, and ``until`` for intervals.

    Windows of time begin at multiples of their length, so windows of a day begin at midnight UTC; numbered snapshots
    begin at the lowest number. A step without events is an empty snapshot.

    Raises:
        ConfigError: a number of snapshots that cannot be meant.
        DataError: no events.
    """
    until = "max(until)" if how.intervals else "max(time)"
    count, first, last = db.execute(f"SELECT count(*), min(time), {until} FROM {events}").fetchall()[0]
    if count == 0:
        raise DataError("no edges left to import.")
    if how.events_per_snapshot is not None:
        return _by_count(db, how.events_per_snapshot, events, count)
    length = how.window(unit) if how.every is not None else 1
    start = first // length * length
    steps = (last - start) // length + 1
    if steps > MOST_STEPS:
        limit = f"at most {MOST_STEPS:,} are possible"
        raise ConfigError(f"{_given(how)} makes {steps:,} snapshots, {limit}. {_advice(how, steps)}")
    return Steps(
        sql=f"(time - {start}) // {length}",
        until_sql=f"until - {start}" if how.intervals else None,
        count=steps,
        time=start + length * np.arange(steps, dtype=np.int64),
        about={name: value for name, value in vars(how).items() if value is not None} | {"window": length},
        hint=None if how.intervals else _cut_short(last, start + (steps - 1) * length, length, unit, steps),
    )


def _cut_short(last: int, start: int, length: int, unit: str, steps: int) -> str | None:
    """What to know of the last of several windows, from ``start`` on, where events fill less than half of it."""
    share = (last + 1 - start) / length
    if steps == 1 or share > 0.5:
        return None
    return (
        f"the last snapshot, from {in_words(start, unit)} on, has events of {share:.0%} of its time alone, and what "
        "comes after it is predicted from that: leave its rows out to end with a whole one."
    )


def _by_count(db: duckdb.DuckDBPyConnection, size: int, events: str, count: int) -> Steps:
    steps = -(-count // size)
    if steps > MOST_STEPS:
        raise ConfigError(
            f"--events-per-snapshot {size} makes {steps:,} snapshots of {count:,} events, at most {MOST_STEPS:,} are "
            f"possible: give {-(-count // MOST_STEPS):,} or more."
        )
    # The time of every size-th event, in order: where each step begins.
    ordered = f"SELECT time, row_number() OVER (ORDER BY time) - 1 AS position FROM {events}"
    starts = db.execute(f"SELECT time FROM ({ordered}) WHERE position % {size} = 0 ORDER BY position").fetchnumpy()
    times = np.asarray(starts["time"], np.int64)
    return Steps(f"position // {size}", None, steps, times, {"events_per_snapshot": size})


def _given(how: Cut) -> str:
    name, value = next((name, value) for name, value in vars(how).items() if value is not None)
    return f"--{name.replace('_', '-')} {value}"


def _advice(how: Cut, steps: int) -> str:
    if how.every is not None:
        return f"Give a window that is at least {-(-steps // MOST_STEPS):,} times as long."
    return f"If {how.time_column!r} holds times rather than numbers of snapshots, use --every 1d."
