"""Where the time went: each process's training step, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgscale.report.bars import stacked_figure
from tgscale.report.drawing import Drawing
from tgscale.report.palette import OTHER, SERIES, THEMES
from tgscale.report.runs import Run, numbers
from tgscale.report.section import Section, Table, amount, duration
from tgscale.train.timeline import kind_of

MOST_PROCESSES = 8
SMALL = 0.01  # of the step: parts below it are summed up


def where_time_went(runs: Sequence[Run]) -> Section:
    """A bar per process, and a table of what training cost."""
    lead = (
        "Parts of a training step as each process spent it, without what lies within another part. What workers and "
        "background threads did meanwhile, and what was done between steps, stands in a table of its own."
    )
    section = Section("time", "Where the time went", lead)
    rows = []
    for place, run in enumerate(runs):
        processes = run.train.get("processes") or []
        if not processes:
            if not run.finished:
                section.missing.append(f"{run.name} has not ended, and says then where its time went.")
            continue
        steps = [_step(process, run.train) for process in processes[:MOST_PROCESSES]]
        if any(parts for _, parts in steps):
            _draw(section, run, steps, len(processes), place)
        rows.append(_row(run))
        section.figures[run.name] = {
            "seconds": run.train.get("seconds"),
            "events_per_second": run.train.get("events_per_second"),
            "seconds_per_step": [{"total": total, **parts} for total, parts in steps],
            "beside": _beside(processes[0]),
        }
    if rows:
        section.tables.append(
            Table(
                ["", "training", "per epoch", "events/s", "peak memory", "parameters", "processes"],
                rows,
                caption="Cost",
            )
        )
    for run in runs:
        beside = _beside((run.train.get("processes") or [{}])[0])
        if beside:
            words = [[name, duration(seconds)] for name, seconds in beside.items()]
            section.tables.append(
                Table(["", "time per step"], words, caption=f"{run.name}, process 0: outside the step")
            )
    return section


def _step(process: dict[str, Any], train: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """Seconds of a step of a process, whole and by part, the longest first; the parts add up to the whole."""
    iterations = max(process.get("iterations") or 1, 1)
    own = {name: seconds / iterations for name, seconds in numbers(process.get("own_time", {})).items()}
    total = (process.get("seconds") or train.get("seconds") or sum(own.values()) * iterations) / iterations
    parts = {name: s for name, s in sorted(own.items(), key=lambda item: -item[1]) if s >= SMALL * total}
    rest = total - sum(parts.values())
    if rest > 0:
        parts["everything else"] = rest
    return total, parts


def _beside(process: dict[str, Any]) -> dict[str, float]:
    """Seconds per step of what ran in other lanes than the step's own."""
    iterations = max(process.get("iterations") or 1, 1)
    own = process.get("own_time", {})
    times = numbers(process.get("time", {}))
    return {name: seconds / iterations for name, seconds in times.items() if name not in own and seconds > 0}


def _draw(section: Section, run: Run, steps: list[tuple[float, dict[str, float]]], count: int, place: int) -> None:
    who = "trainer" if run.kind == "stream" else "device"
    names = list(dict.fromkeys(name for _, parts in steps for name in parts))
    colors = _colors(names)
    rows = [
        (
            f"{who} {rank}",
            [(name, parts[name], colors[name]) for name in names if name in parts],
            f"{duration(total)} per step",
        )
        for rank, (total, parts) in enumerate(steps)
    ]
    note = f"The first {len(steps)} of {count}." if count > len(steps) else ""
    section.drawings.append(Drawing(f"time-{place}", f"{run.name}: a training step", stacked_figure(rows), note))


def _colors(names: list[str]) -> dict[str, str]:
    """Each part in the colour of its kind of work; where a kind has several, further ones from the series."""
    spare = [color for color in (SERIES[5], SERIES[6], SERIES[3], SERIES[4], SERIES[7], SERIES[2], SERIES[1])]
    taken: dict[str, str] = {}
    for name in names:
        color = THEMES[kind_of(name)][0]
        if name == "everything else":
            color = OTHER
        elif color in taken.values():
            color = spare.pop(0) if spare else OTHER
        taken[name] = color
    return taken


def _row(run: Run) -> list[str]:
    train = run.train
    seconds, epochs = train.get("seconds"), train.get("epochs")
    each = seconds / epochs if seconds and epochs else None
    peak = train.get("peak_memory_bytes")
    return [
        run.name,
        duration(seconds) if seconds else "–",  # noqa: RUF001
        duration(each) if each else "–",  # noqa: RUF001
        amount(train["events_per_second"]) if train.get("events_per_second") else "–",  # noqa: RUF001
        f"{peak / 2**20:,.0f} MiB" if peak else "–",  # noqa: RUF001
        amount(train["parameters"]) if train.get("parameters") else "–",  # noqa: RUF001
        str(train.get("ranks", 1)),
    ]
