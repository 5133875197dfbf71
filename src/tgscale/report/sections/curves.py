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
    lead = "After each validation; the ring marks the one whose weights were kept, as its metric was the best."
    section = Section("curves", "Learning curves", lead)
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
        found = {
            at: (n[axis], n[metric])
            for at, line in enumerate(run.lines)
            if axis in (n := numbers(line)) and metric in n
        }
        if found:
            style, best = series(list(runs).index(run)), kept_of(run)
            ring = list(found).index(best) if best in found else None
            lines.append(Line(run.name, [x for x, _ in found.values()], [y for _, y in found.values()], style, ring))
    if lines:
        title = "training loss" if metric == "loss" else f"validation {metric_name(metric)}"
        over = "" if axis == "epoch" else ", by iterations"
        section.drawings.append(Drawing(f"curves-{metric}-{axis}", title + over, lines_figure(lines, words)))


def kept_of(run: Run) -> int | None:
    """Which of a run's lines has the weights that were kept: the best by the metric that validations are compared by,
    as the result says, or so far."""
    epochs = [line.get("epoch") for line in run.lines]
    if run.train.get("best_epoch") in epochs:
        return epochs.index(run.train["best_epoch"])
    values = {at: n for at, line in enumerate(run.lines) if (n := numbers(line).get(f"val_{run.metric}")) is not None}
    sign = -1 if lower_is_better(str(run.metric)) else 1
    return max(values, key=lambda at: sign * values[at], default=None)
