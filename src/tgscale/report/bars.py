"""Horizontal bars with their names above them, which stay readable on a narrow page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tgscale.report.palette import GRID, INK, QUIET, STYLE

WIDTH, ROW = 4.0, 0.34  # inches


class Bar(NamedTuple):
    """One bar: its name, length, colour, and the words at its end."""

    name: str
    value: float
    color: str
    label: str


def bars_figure(bars: Sequence[Bar], most: float = 0.0) -> Figure:
    """A bar per row, from 0; its words stand above it, at the left its name and at the right its figure.

    The track reaches to ``most``, or to the longest bar.
    """
    with rc_context(STYLE):
        figure, axes = _page(len(bars))
        longest = max((bar.value for bar in bars), default=0)
        longest = max(longest, most) or 1
        axes.set_xlim(0, longest)
        for row, bar in enumerate(bars):
            axes.broken_barh([(0, longest)], (row + 0.16, 0.2), facecolors=GRID, linewidth=0)
            axes.broken_barh([(0, bar.value)], (row + 0.16, 0.2), facecolors=bar.color, linewidth=0)
            axes.text(0, row + 0.06, bar.name, va="bottom", ha="left", color=INK, fontsize=8.5)
            axes.text(longest, row + 0.06, bar.label, va="bottom", ha="right", color=INK, fontsize=8.5)
    return figure


def stacked_figure(rows: Sequence[tuple[str, Sequence[tuple[str, float, str]], str]]) -> Figure:
    """A row of parts laid end to end; equal parts have one entry in the legend below.

    Args:
        rows: name, parts (name, length, colour), and the words at the right.
    """
    legend = {part: color for _, parts, _ in rows for part, _, color in parts}
    lines = -(-len(legend) // 2)
    with rc_context(STYLE):
        figure, axes = _page(len(rows), 0.2 * lines + 0.12)
        longest = max((sum(length for _, length, _ in parts) for _, parts, _ in rows), default=0) or 1
        axes.set_xlim(0, longest)
        for row, (name, parts, label) in enumerate(rows):
            start = 0.0
            for _, length, color in parts:
                axes.broken_barh([(start, length)], (row + 0.14, 0.42), facecolors=color, linewidth=0)
                start += length
            axes.text(0, row + 0.06, name, va="bottom", ha="left", color=INK, fontsize=8.5)
            axes.text(longest, row + 0.06, label, va="bottom", ha="right", color=QUIET, fontsize=8.5)
        patches = [Patch(color=color, label=part) for part, color in legend.items()]
        figure.legend(handles=patches, loc="lower left", ncols=2, bbox_to_anchor=(0, 0), borderaxespad=0, fontsize=8)
    return figure


def _page(rows: int, below: float = 0.0) -> tuple[Figure, Axes]:
    height = ROW * 1.25 * rows + 0.12 + below
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, below / height, 0.98, 1 - (below + 0.02) / height))
    axes.set_ylim(rows - 0.35, -0.65)
    axes.axis("off")
    return figure, axes
