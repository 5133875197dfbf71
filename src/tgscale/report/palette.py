"""The colours of the report: one palette for a light page and for files, one for a dark page.

Figures are drawn in the light colours. On the page each of them becomes a CSS variable, so a figure follows the theme.
"""

from __future__ import annotations

from typing import Any

INK, QUIET, GRID, PAPER = "#1f2937", "#5f6672", "#e2e5ea", "#ffffff"
SERIES = ("#2563eb", "#d9760a", "#05966b", "#db2777", "#7c3aed", "#0891b2", "#659a0d", "#b9281c")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (4, 1.5, 1, 1.5)))
MARKERS = "osD^vP*X"

GRAPH, NN, BACKWARD, OPTIMIZER = "#d6604e", "#2166ad", "#8dc0de", "#1b7838"
MEMORY, DATA, EXCHANGE, WAIT, OTHER = "#e0a12b", "#8a6fb0", "#7b3295", "#c9cdd4", "#9aa1ad"

THEMES: dict[str, tuple[str, str, str]] = {
    "page": ("#f4f5f8", "#f4f5f8", "#0e1217"),
    "ink": (INK, INK, "#e6e9ee"),
    "quiet": (QUIET, QUIET, "#9aa3b0"),
    "grid": (GRID, GRID, "#303742"),
    "paper": (PAPER, PAPER, "#171c23"),
    "c0": (SERIES[0], SERIES[0], "#6aa8ff"),
    "c1": (SERIES[1], SERIES[1], "#f5a742"),
    "c2": (SERIES[2], SERIES[2], "#3fcf9b"),
    "c3": (SERIES[3], SERIES[3], "#f47ab5"),
    "c4": (SERIES[4], SERIES[4], "#ae8dfb"),
    "c5": (SERIES[5], SERIES[5], "#39c6e0"),
    "c6": (SERIES[6], SERIES[6], "#a5d84a"),
    "c7": (SERIES[7], SERIES[7], "#f4796d"),
    "graph": (GRAPH, GRAPH, "#ee8272"),
    "nn": (NN, NN, "#5b9fe0"),
    "backward": (BACKWARD, BACKWARD, "#a9d4ec"),
    "optimizer": (OPTIMIZER, OPTIMIZER, "#56b874"),
    "memory": (MEMORY, MEMORY, "#efbd5d"),
    "data": (DATA, DATA, "#b39bd6"),
    "exchange": (EXCHANGE, EXCHANGE, "#c07bdb"),
    "wait": (WAIT, WAIT, "#454d59"),
    "other": (OTHER, OTHER, "#6f7886"),
    # Of the schedule's drawing, whose cells keep their colours in both themes.
    "schedule-ink": ("#333333", INK, "#e6e9ee"),
    "schedule-quiet": ("#8a8a8a", QUIET, "#9aa3b0"),
    "schedule-idle": ("#f3f3f3", "#f3f3f3", "#20262f"),
    "schedule-hatch": ("#cccccc", "#cccccc", "#3d4551"),
}
"""CSS variable -> the colour that figures are drawn in, and what stands for it on a light and on a dark page."""

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in the name of a run is a dollar
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.9,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tgscale",  # equal figures make equal files
}


def series(index: int) -> dict[str, Any]:
    """How the line of the ``index``-th run is drawn: told apart by dashes and markers, too, and not by colour alone."""
    return {
        "color": SERIES[index % len(SERIES)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def variables(dark: bool) -> str:
    """The palette as CSS declarations."""
    return " ".join(f"--{name}: {themes[2 if dark else 1]};" for name, themes in THEMES.items())
