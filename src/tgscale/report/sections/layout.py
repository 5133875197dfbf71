"""How the work was shared out: the schedule of a stream's trainers, the balance of a snapshot run's devices."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import rc_context

from tgscale.report.drawing import Drawing
from tgscale.report.lines import Line, lines_figure
from tgscale.report.palette import STYLE, series
from tgscale.report.runs import Run
from tgscale.report.schedule_figure import schedule_figure
from tgscale.report.section import Section, Table, duration
from tgscale.stream.layout import Layout
from tgscale.stream.schedule import Schedule

ITERATIONS, MOST_TRAINERS = 8, 16


def layout(runs: Sequence[Run]) -> Section:
    """A drawing per layout, and curves of balance."""
    section = Section("layout", "Layout and schedule")
    _schedules(section, [run for run in runs if run.kind == "stream"])
    _devices(section, [run for run in runs if run.kind == "snapshots" and run.finished])
    return section


def _schedules(section: Section, runs: list[Run]) -> None:
    drawn: set[tuple] = set()
    for run in runs:
        schedule = schedule_of(run)
        if schedule is None:
            section.missing.append(f"{run.name} has no result yet, which says how many events it trains on.")
            continue
        section.figures[run.name] = {
            "layout": str(schedule.layout),
            "emulated": run.train.get("emulated"),
            "batches": schedule.num_batches,
            "iterations": schedule.iterations,
            "batch_size": schedule.batch_size,
        }
        key = (schedule.layout, schedule.num_batches)
        if key in drawn:
            continue
        drawn.add(key)
        if schedule.layout.world > MOST_TRAINERS:
            section.missing.append(
                f"the schedule of {run.name} is not drawn: {schedule.layout.world} trainers are more than fit."
            )
            continue
        with rc_context({**STYLE, "axes.grid": False}):
            figure = schedule_figure(schedule, min(ITERATIONS, schedule.iterations))
        note = (
            f"The first {min(ITERATIONS, schedule.iterations)} of {schedule.iterations:,} iterations; the number in a "
            f"cell is the local batch, of {schedule.num_batches:,}."
        )
        title = f"{run.data}: who works on which batch"
        section.drawings.append(Drawing(f"schedule-{len(drawn)}", title, figure, note, wide=True))


def schedule_of(run: Run) -> Schedule | None:
    """The schedule of a run; None where the run does not say enough."""
    events, train = run.result.get("split", {}).get("train"), run.config.get("train", {})
    if not isinstance(events, int) or not {"batch_size", "epochs"} <= train.keys():
        return None
    written = run.train.get("layout") or run.config.get("emulate") or run.config.get("layout")
    where = Layout() if written in (None, "auto") else Layout.parse(str(written))
    return Schedule(where, events, train["batch_size"], train["epochs"], warm=train.get("warm_start") == "replay")


def _devices(section: Section, runs: list[Run]) -> None:
    rows: list[list[str]] = []
    imbalance: list[Line] = []
    waits: list[Line] = []
    for place, run in enumerate(runs):
        train = run.train
        choice = train.get("executor_choice") or {}
        rows.append(
            [
                run.name,
                f"{train.get('partition')}, {train.get('assign') or 'shared'}",
                str(train.get("ranks", 1)),
                f"{train.get('groups')} ({train.get('groups_per_step')} a step)",
                f"{train.get('executor')}: {choice.get('why', '')}".rstrip(": "),
            ]
        )
        section.figures[run.name] = {
            name: train.get(name)
            for name in ("partition", "assign", "ranks", "groups", "executor", "imbalance", "sync_wait_seconds")
        }
        if train.get("ranks", 1) > 1:
            for lines, name in ((imbalance, "imbalance"), (waits, "sync_wait_seconds")):
                values = train.get(name) or []
                lines.append(Line(run.name, list(range(1, len(values) + 1)), values, series(place)))
        notes = train.get("notes") or []
        section.notes += [f"{run.name}: {note}" for note in notes]
    if rows:
        heads = ["", "partition", "devices", "groups", "executor"]
        section.tables.append(Table(heads, rows, caption="How groups of snapshots were shared out", words=True))
    if imbalance:
        figure = lines_figure(imbalance, "epochs")
        note = "Work of the busiest device over the mean; 1 is even."
        section.drawings.append(Drawing("imbalance", "imbalance of the devices", figure, note))
        figure = lines_figure(waits, "epochs")
        note = f"Last epoch: {', '.join(f'{line.name} {duration(line.y[-1])}' for line in waits if line.y)}."
        section.drawings.append(Drawing("sync-wait", "seconds that devices waited, per epoch", figure, note))
