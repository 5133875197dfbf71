"""Validation MRR against iterations of several runs, a panel per data set (DistTGL, figure 9)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mode
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tgscale.errors import RunError
from tgscale.report.plan_figure import GRID, STYLE
from tgscale.stream.layout import Layout
from tgscale.train.rundir import METRICS, RESULT, RunDirectory

TOLD_APART_BY = (
    "preset",
    "train.lr_scaling",
    "train.warm_start",
    "train.batch_size",
    "train.lr",
    "static.mode",
    "seed",
)
"""Options that are named in the legend, where most runs of a data set have another value."""
SHOWN = 0.12  # of the MRR below the best, at least: what is far below is where curves begin, and of no interest
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (4, 1.5, 1, 1.5)))
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Curve:
    """One run.

    Attributes:
        data: name of the data set.
        layout: i x j x k.
        iterations, mrr: of each validation, and what it gave.
        test_mrr: of the best weights; None for a run that has not come to its end.
        options: those of ``TOLD_APART_BY``.
    """

    data: str
    layout: Layout
    iterations: tuple[int, ...]
    mrr: tuple[float, ...]
    test_mrr: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> tuple[int, float]:
        """Iteration and MRR of the best validation."""
        at = max(range(len(self.mrr)), key=self.mrr.__getitem__)
        return self.iterations[at], self.mrr[at]


def read_curve(run: Path) -> Curve:
    """The validations of a run, finished or not.

    Raises:
        RunError: not a run directory, or one without a validation.
    """
    config = RunDirectory.read_config(run)
    metrics, result = run / METRICS, run / RESULT
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    lines = [line for line in lines if line["kind"] == "epoch" and line["val_mrr"] is not None]
    if not lines:
        raise RunError(f"{run} holds no validation: train for longer first, or leave it out.")
    ended = json.loads(result.read_text()) if result.exists() else None
    layout = config.get("emulate") or config.get("layout", "auto")
    return Curve(
        data=ended["data"]["name"] if ended else Path(config["data"]).name,
        layout=Layout() if layout == "auto" else Layout.parse(layout),
        iterations=tuple(line["iteration"] for line in lines),
        mrr=tuple(line["val_mrr"] for line in lines),
        test_mrr=ended["test"]["mrr"] if ended else None,
        options={name: _option(config, name) for name in TOLD_APART_BY},
    )


def draw_convergence(runs: Iterable[Path], *files: Path) -> None:
    """Draw the curves of some run directories into files.

    Args:
        runs: run directories, of runs that have ended or are still going.
        files: to write; their suffixes say the format, ``.svg`` and ``.png`` among them.

    Raises:
        RunError: a run without a validation.
    """
    with rc_context(STYLE):
        figure = convergence_figure([read_curve(run) for run in runs])
        for file in files:
            figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def convergence_figure(curves: Sequence[Curve]) -> Figure:
    """A panel per data set, in the order in which they first occur; a color per layout, the same in all panels."""
    names = list(dict.fromkeys(curve.data for curve in curves))
    layouts = sorted({curve.layout for curve in curves}, key=lambda layout: (layout.world, str(layout)))
    colors = {layout: _color(index, len(layouts)) for index, layout in enumerate(layouts)}
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(6.8 if columns == 1 else 5.2 * columns, 4.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        of_set = [curve for curve in curves if curve.data == name]
        _draw_panel(axes, name, sorted(of_set, key=lambda curve: layouts.index(curve.layout)), colors)
    figure.supxlabel("circled: the best validation; test: MRR of its weights on the test part", fontsize=8.5)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # or each file would move everything a little further
    return figure


def _draw_panel(axes: Axes, name: str, curves: list[Curve], colors: dict[Layout, Any]) -> None:
    labels, of_layout = _labels(curves), dict.fromkeys(colors, 0)
    for curve, label in zip(curves, labels, strict=True):
        color, turn = colors[curve.layout], of_layout[curve.layout]
        marker = MARKERS[list(colors).index(curve.layout) % len(MARKERS)]
        style = {"color": color, "linestyle": DASHES[turn % len(DASHES)], "marker": marker}
        axes.plot(curve.iterations, curve.mrr, linewidth=1.8, markersize=3.5, label=label, **style)
        axes.plot(*curve.best, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=color, linestyle="")
        of_layout[curve.layout] += 1
    axes.set_title(name, loc="left", fontsize=11.5, fontweight="bold")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("iterations")
    axes.set_ylabel("validation MRR")
    bests = [curve.best[1] for curve in curves]
    bottom = max(axes.get_ylim()[0], max(bests) - max(SHOWN, 1.5 * (max(bests) - min(bests))))
    axes.set_ylim(bottom=bottom)
    first = min(t for curve in curves for t, mrr in zip(curve.iterations, curve.mrr, strict=True) if mrr >= bottom)
    axes.set_xlim(left=0.7 * first)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.16),
        ncols=1 if max(map(len, labels)) > 30 else 2,
        frameon=False,
        fontsize=8.5,
        handlelength=3,
    )


def _labels(curves: list[Curve]) -> list[str]:
    """Layout, the options that are not those of most curves of the panel, and the test MRR."""
    usual = {name: mode([str(curve.options.get(name)) for curve in curves]) for name in TOLD_APART_BY}
    labels = []
    for curve in curves:
        own = {name: str(curve.options.get(name)) for name in TOLD_APART_BY}
        words = [str(curve.layout), *(f"{_short(name)} {own[name]}" for name in own if own[name] != usual[name])]
        test = "not finished" if curve.test_mrr is None else f"test {curve.test_mrr:.3f}"
        labels.append(f"{', '.join(words)}: {test}")
    return labels


def _short(name: str) -> str:
    return name.rpartition(".")[2].replace("_", "-")


def _option(config: dict[str, Any], name: str) -> Any:
    for key in name.split("."):
        config = config.get(key, {})
    return config


def _color(index: int, count: int) -> Any:
    """Dark for few trainers, light for many; far enough from white to be seen."""
    return colormaps["viridis"](0.88 * index / max(count - 1, 1))
