"""Lines over an axis, of the size that a page and a phone show well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tgscale.report.palette import INK, QUIET, STYLE, series

SIZE = (4.0, 2.6)  # inches
SHOWN = "shown"
"""Label of what is in the legend; its own name might begin with _, which matplotlib leaves out."""


@dataclass
class Line:
    """One line.

    Attributes:
        name: in the legend.
        x, y: its points.
        style: of matplotlib; see :func:`~tgscale.report.palette.series`.
        ring: number of the point to draw a ring around.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: dict[str, Any] = field(default_factory=lambda: series(0))
    ring: int | None = None


def lines_figure(
    lines: Sequence[Line],
    xlabel: str,
    percent: bool = False,
    doubling: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    ticks: Sequence[str] = (),
) -> Figure:
    """Lines with a legend below.

    Args:
        lines: to draw.
        xlabel: under the axis.
        percent: whether y is a share.
        doubling: whether x is a size, on an axis that doubles.
        marks: places on x to mark, and their words.
        ticks: names of x = 0, 1, 2, ..., where it is no number.
    """
    with rc_context(STYLE):
        names = [line.name for line in lines if line.name] + [words for _, words in marks]
        rows = len(names) if max(map(len, names), default=0) > 20 else -(-len(names) // 2)
        figure = Figure(figsize=(SIZE[0], SIZE[1] + 0.19 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for line in lines:
            axes.plot(line.x, line.y, label=SHOWN if line.name else None, **line.style)
            if line.ring is not None and line.y:
                ring: dict[str, Any] = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "linestyle": ""}
                axes.plot(line.x[line.ring], line.y[line.ring], markeredgecolor=line.style["color"], **ring)
        for at, _ in marks:
            axes.axvline(
                at, color=QUIET, linewidth=1.2, linestyle=(0, (3, 2)) if at != marks[0][0] else "-", label=SHOWN
            )
        _axis(axes, doubling, ticks, [x for line in lines for x in line.x])
        axes.set_xlabel(xlabel)
        axes.margins(x=0.04, y=0.08)
        if percent:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        if names:
            columns = 1 if rows == len(names) else 2
            _legend(figure, axes, names, columns)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # or each file would move everything a little further
    return figure


def _legend(figure: Figure, axes: Axes, names: Sequence[str], columns: int) -> None:
    """Names in the order in which their lines were drawn."""
    shown = [artist for artist in axes.get_lines() if artist.get_label() == SHOWN]
    legend = figure.legend(handles=shown, loc="outside lower left", ncols=columns, handlelength=2.6, labelcolor=INK)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def _axis(axes: Axes, doubling: bool, ticks: Sequence[str], xs: Sequence[float]) -> None:
    if ticks:
        axes.set_xticks(range(len(ticks)), list(ticks))
    elif doubling and xs:
        axes.set_xscale("log", base=2)
        at = [min(xs)]
        while at[-1] * 2 <= max(xs):
            at.append(at[-1] * 2)
        axes.xaxis.set_major_locator(FixedLocator(at[:: -(-len(at) // 6)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=all(float(x).is_integer() for x in xs)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
