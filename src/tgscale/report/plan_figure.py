"""The curves behind a plan: events that the memory misses, and throughput, against the batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from tgscale.stream.choice import percent
from tgscale.stream.planner import Plan
from tgscale.stream.throughput import SATURATED

ALL, BUSY, RATE, INK, GRID, CHOSEN = "#2166ac", "#d6604d", "#1b7837", "#333333", "#e3e3e3", "#7b3294"
DASHED, DOTTED = (0, (4, 3)), (0, (1, 1.2))
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tgscale",  # equal plans make equal files
}


def draw_plan(plan: Plan, *files: Path) -> None:
    """Draw a plan into files; their suffixes say the format, ``.svg`` and ``.png`` among them."""
    with rc_context(STYLE):
        figure = plan_figure(plan)
        for file in files:
            figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def plan_figure(plan: Plan) -> Figure:
    """Two panels over one axis of batch sizes; the chosen local and global batch stand as lines in both."""
    figure = Figure(figsize=(8, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    missing, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    choice = plan.choice
    figure.suptitle(
        f"{plan.name}: layout {choice.layout} for {choice.machines} x {choice.trainers_per_machine} trainers",
        fontsize=13,
        fontweight="bold",
        x=0.015,
        ha="left",
    )
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    _draw_missing(missing, plan)
    _draw_rate(rate, plan)
    _mark_choice(missing, rate, plan)
    for axes in (missing, rate):
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, handlelength=2.2, borderaxespad=0)
    _axis_of_sizes(rate, plan)
    return figure


def _draw_missing(axes: Axes, plan: Plan) -> None:
    curve, limits = plan.captured, plan.request
    busy = "busiest node" if curve.busy_nodes == 1 else f"busiest 1 % ({curve.busy_nodes:,} nodes)"
    series = (
        (curve.missing, limits.max_missing, ALL, "all nodes", "o"),
        (curve.missing_busy, limits.max_missing_busy, BUSY, busy, "s"),
    )
    for values, limit, color, label, marker in series:
        axes.plot(curve.batch_sizes, values, color=color, marker=marker, markersize=4.5, linewidth=2, label=label)
        if limit < 1:
            axes.axhline(limit, color=color, linestyle=DASHED, linewidth=1, label=f"limit {percent(limit)}", zorder=1)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    _panel(axes, "events that the node memory misses")


def _draw_rate(axes: Axes, plan: Plan) -> None:
    rates = plan.profile.rates
    best = max(rates.values())
    axes.plot(
        list(rates), list(rates.values()), color=RATE, marker="o", markersize=4.5, linewidth=2, label="one trainer"
    )
    label = f"{percent(SATURATED)} of the best"
    axes.axhline(SATURATED * best, color=RATE, linestyle=DASHED, linewidth=1, label=label, zorder=1)
    axes.set_ylim(0, best * 1.12)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _panel(axes, f"training events per second on {plan.profile.name}")


def _panel(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _mark_choice(top: Axes, bottom: Axes, plan: Plan) -> None:
    choice = plan.choice
    marks: list[tuple[int, str, Any]] = [(choice.batch_size, "local = global batch", "-")]
    if choice.batch_size < choice.global_batch:
        marks = [(choice.batch_size, "local batch", DOTTED), (choice.global_batch, "global batch", "-")]
    for size, name, style in marks:
        for axes in (top, bottom):
            label = f"{name} {size:,}" if axes is top else None
            axes.axvline(size, color=CHOSEN, linewidth=1.6, linestyle=style, label=label, zorder=1.5)


def _axis_of_sizes(axes: Axes, plan: Plan) -> None:
    """A logarithmic axis with a tick at every power of two times the smallest size."""
    smallest, largest = plan.captured.batch_sizes[0], max(*plan.captured.batch_sizes, *plan.profile.rates)
    ticks = [smallest]
    while ticks[-1] * 2 <= largest:
        ticks.append(ticks[-1] * 2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="x", rotation=30)
    axes.set_xlabel("events per batch")
