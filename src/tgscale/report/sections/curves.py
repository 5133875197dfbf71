"""Learning curves: the validation metric and the loss, of all runs in one drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgscale.report.drawing import Drawing
from tgscale.report.lines import Line, lines_figure
from tgscale.report.palette import series
from tgscale.report.runs import Run, numbers
from tgscale.report.section import Section
from tgscale.train.metric_names import lower_is_better, metric_name

MOST_METRICS = 3


def curves(runs: Sequence[Run]) -> Section:
    """A drawing for the main metric, the loss, and what else is worth one."""
    section = Section("curves", "Learning curves", "After each validation; the ring marks the best one.")
    for run in runs:
        if not run.lines:
            section.missing.append(f"{run.name} has no validation yet.")
    shown = [run for run in runs if run.lines]
    many = len({run.train.get("layout", run.config.get("layout")) for run in shown}) > 1
    axes = [("epoch", "epochs")] + ([("iteration", "iterations of the optimiser")] if many else [])
    for metric in _metrics(shown):
        for axis, words in axes[: None if metric == _main(shown) else 1]:
            _draw(section, shown, runs, metric, axis, words)
    section.figures = {run.name: [_numbers(line) for line in run.lines] for run in shown}
    return section


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    return numbers(line)


def _main(runs: Sequence[Run]) -> str | None:
    return next((f"val_{run.metric}" for run in runs if run.metric), None)


def _metrics(runs: Sequence[Run]) -> list[str]:
    """The main metric of every run, the loss, and for a run alone some more."""
    mains = list(dict.fromkeys(f"val_{run.metric}" for run in runs if run.metric))
    more = [name for run in runs for line in run.lines for name in line if name.startswith("val_")]
    more = [name for name in dict.fromkeys(more) if name not in (*mains, "val_seconds")]
    return [*mains, "loss", *more[: max(0, MOST_METRICS - len(mains) - 1)]]


def _draw(section: Section, shown: list[Run], runs: Sequence[Run], metric: str, axis: str, words: str) -> None:
    lines = []
    for run in shown:
        points = [(n[axis], n[metric]) for line in run.lines if axis in (n := numbers(line)) and metric in n]
        if points:
            style = series(list(runs).index(run))
            lines.append(Line(run.name, [x for x, _ in points], [y for _, y in points], style, _best(points, metric)))
    if lines:
        title = "training loss" if metric == "loss" else f"validation {metric_name(metric)}"
        over = "" if axis == "epoch" else ", by iterations"
        section.drawings.append(Drawing(f"curves-{metric}-{axis}", title + over, lines_figure(lines, words)))


def _best(points: list[tuple[float, float]], metric: str) -> int | None:
    if metric == "loss":
        return None
    values = [y for _, y in points]
    return values.index(min(values) if lower_is_better(metric) else max(values))
