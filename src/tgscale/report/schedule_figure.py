"""A schedule as a picture: a row per trainer, a column per iteration (DistTGL, figures 5 to 7)."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from tgscale.report.plan_figure import INK, STYLE
from tgscale.stream.schedule import Schedule, Task

CELL_INK = "#22272e"  # on light cells, also where the page is dark
WHITE = "#fefefe"  # on dark cells, in both themes: the page has another white, which turns dark there
READ, WRITE, RESET, IDLE, QUIET = "#1b7837", "#b2182b", "#7b3294", "#f3f3f3", "#8a8a8a"
MARKS = {"R": (READ, "reads memory"), "0": (RESET, "begins with empty memory"), "W": (WRITE, "writes memory")}
TIME = LinearSegmentedColormap.from_list("time", colormaps["YlGnBu"]([0.08, 0.3, 0.5, 0.7]))
CELL = 0.62  # inches
BRACKET = 0.4  # inches at the left, where there are several copies
GAP = 0.35  # rows between two memory copies
LEFT, RIGHT, TOP, BOTTOM = 1.15, 0.2, 0.9, 0.98  # inches around the grid


def draw_schedule(schedule: Schedule, *files: Path, iterations: int | None = None) -> None:
    """Draw a schedule into files; their suffixes say the format, ``.svg`` and ``.png`` among them.

    A cell is what a trainer does at an iteration: its local batch, coloured from the start of the stream (light) to
    its end (dark), with the letter of the negative set where there are several; below, what it does with the memory.
    A bar that spans several iterations is a batch that is kept. Hatched cells have no batch.

    Args:
        schedule: the run; its trainers and batches should be few.
        files: to write.
        iterations: how many to draw, from the first; all of them unless given.
    """
    with rc_context(STYLE):
        figure = schedule_figure(schedule, schedule.iterations if iterations is None else iterations)
        for file in files:
            figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def schedule_figure(schedule: Schedule, iterations: int) -> Figure:
    """The figure; one unit of its axes is one cell."""
    layout = schedule.layout
    rows = layout.world + GAP * (layout.memory - 1)
    width, height = iterations * CELL, rows * CELL
    left = LEFT + BRACKET * (layout.memory > 1)
    size = max(left + width + RIGHT, 5.0), height + TOP + BOTTOM
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / size[0], BOTTOM / size[1], width / size[0], height / size[1]))
    axes.set_xlim(0, iterations)
    axes.set_ylim(rows, 0)
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    axes.set_xticks([t + 0.5 for t in range(iterations)], [str(t) for t in range(iterations)])
    axes.set_yticks(
        [_row(schedule, trainer) + 0.5 for trainer in range(layout.world)],
        [f"trainer {trainer}" for trainer in range(layout.world)],
    )
    axes.tick_params(length=0, pad=6)
    for trainer in range(layout.world):
        _draw_trainer(axes, schedule, trainer, iterations)
    _mark_copies(axes, schedule)
    _mark_validations(axes, schedule, iterations, rows)
    _explain(figure, schedule, left, size)
    return figure


def _row(schedule: Schedule, trainer: int) -> float:
    """Upper edge of a trainer's row."""
    return trainer + GAP * (trainer // schedule.layout.group_size)


def _draw_trainer(axes: Axes, schedule: Schedule, trainer: int, iterations: int) -> None:
    row = _row(schedule, trainer)
    tasks = [schedule.task(t, trainer) for t in range(iterations)]
    runs = groupby(range(iterations), key=lambda t: task.position if (task := tasks[t]) else ~t)
    for _, times in runs:
        first, *rest = times
        task = tasks[first]
        if task is None:
            _draw_idle(axes, first, row)
            continue
        stop = (rest or [first])[-1] + 1
        color = _color(schedule, task.batch)
        ink = CELL_INK if 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 0.5 else WHITE
        _draw_bar(axes, first, stop, row, color)
        for t in range(first, stop):
            if t > first:
                axes.plot([t, t], [row + 0.18, row + 0.82], color=ink, linewidth=0.6, alpha=0.45)
            _draw_task(axes, schedule, tasks[t], t, row, ink)


def _draw_bar(axes: Axes, first: int, stop: int, row: float, color: tuple[float, ...]) -> None:
    bar = FancyBboxPatch(
        (first + 0.1, row + 0.11),
        stop - first - 0.2,
        0.78,
        boxstyle="round,pad=0.05,rounding_size=0.1",
        facecolor=color,
        edgecolor="#5a7d8a",
        linewidth=0.7,
    )
    axes.add_patch(bar)


def _draw_idle(axes: Axes, t: int, row: float) -> None:
    axes.add_patch(
        Rectangle((t + 0.05, row + 0.06), 0.9, 0.88, facecolor=IDLE, edgecolor="#cccccc", hatch="////", linewidth=0)
    )


def _draw_task(axes: Axes, schedule: Schedule, task: Task | None, t: int, row: float, ink: str) -> None:
    assert task is not None
    letter = chr(ord("a") + task.negative_set) if schedule.layout.epoch > 1 else ""
    marks = "R" * task.reads + "0" * task.resets + "W" * task.writes
    axes.text(
        t + 0.5,
        row + (0.33 if marks else 0.5),
        f"{task.batch}{letter}",
        ha="center",
        va="center",
        color=ink,
        fontsize=11,
        fontweight="bold" if marks else "normal",
    )
    for index, mark in enumerate(marks):
        _draw_mark(axes, t + 0.5 + 0.3 * (index - (len(marks) - 1) / 2), row + 0.69, mark)


def _draw_mark(axes: Axes, x: float, y: float, mark: str) -> None:
    color, _ = MARKS[mark]
    box = {"boxstyle": "round,pad=0.18", "facecolor": color, "edgecolor": WHITE, "linewidth": 0.7}
    axes.text(x, y, mark, ha="center", va="center", color=WHITE, fontsize=7, fontweight="bold", bbox=box)


def _color(schedule: Schedule, batch: int) -> tuple[float, ...]:
    return TIME(batch / max(schedule.num_batches - 1, 1))


def _mark_copies(axes: Axes, schedule: Schedule) -> None:
    """A bracket at the left of the trainers of a memory copy, where there are several copies."""
    layout = schedule.layout
    if layout.memory == 1:
        return
    left = -(LEFT + 0.02) / CELL
    for group in range(layout.memory):
        first = group * layout.group_size
        top, bottom = _row(schedule, first) + 0.1, _row(schedule, first + layout.group_size - 1) + 0.9
        axes.plot([left + 0.12, left, left, left + 0.12], [top, top, bottom, bottom], color=QUIET, clip_on=False)
        middle = (top + bottom) / 2
        axes.text(left - 0.14, middle, f"copy {group}", rotation=90, ha="right", va="center", color=INK, fontsize=9)


def _mark_validations(axes: Axes, schedule: Schedule, iterations: int, rows: float) -> None:
    for t in range(iterations):
        if schedule.ends_sweep(t):
            axes.plot(
                [t + 1, t + 1],
                [-0.12, rows + 0.06],
                color=QUIET,
                linewidth=1.2,
                dashes=(3, 2),
                clip_on=False,
                zorder=0.5,
            )


def _explain(figure: Figure, schedule: Schedule, left: float, size: tuple[float, float]) -> None:
    """Title, the name of the columns, and the legend; in inches."""
    layout = schedule.layout
    page = figure.add_axes((0, 0, 1, 1), zorder=-1)
    page.set_xlim(0, size[0])
    page.set_ylim(0, size[1])
    page.axis("off")
    page.text(0.12, size[1] - 0.27, f"layout {layout}", fontsize=12.5, fontweight="bold", va="center")
    page.text(left - 0.12, size[1] - TOP + 0.155, "iteration", fontsize=9, color=QUIET, ha="right", va="center")
    x, y = 0.2, 0.62
    for mark, (_, words) in MARKS.items():
        _draw_mark(page, x, y, mark)
        page.text(x + 0.16, y, words, fontsize=9, va="center")
        x += 0.42 + 0.068 * len(words)
    x, y = 0.12, 0.27
    for step in range(24):
        page.add_patch(Rectangle((x + 0.03 * step, y - 0.08), 0.03, 0.16, facecolor=TIME(step / 23), linewidth=0))
    page.text(x + 0.8, y, "start to end of the stream", fontsize=9, va="center")
    x += 2.55
    page.add_patch(Rectangle((x, y - 0.08), 0.25, 0.16, facecolor=IDLE, edgecolor="#cccccc", hatch="////", linewidth=0))
    page.text(x + 0.33, y, "no batch", fontsize=9, va="center")
    x += 1.12
    page.plot([x, x], [y - 0.12, y + 0.12], color=QUIET, linewidth=1.2, dashes=(3, 2))
    page.text(x + 0.1, y, "validation", fontsize=9, va="center")
