"""MRR by how often a node has been seen before, and for nodes that training has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tgscale.report.bars import Bar, bars_figure
from tgscale.report.drawing import Drawing
from tgscale.report.lines import Line, lines_figure
from tgscale.report.palette import OTHER, QUIET, SERIES, series
from tgscale.report.runs import Run
from tgscale.report.section import Section, Table, amount, number
from tgscale.stream.per_event import TEST_SCORES

EDGES = (0, 1, 4, 16, 64, 256, 1024)
"""First degree of each bin."""
RULES = {"recency": ":", "edgebank": "--"}
"""Rules that are drawn beside the models, and how."""
ENDS = ("source", "destination")


def degree(runs: Sequence[Run]) -> Section:
    """A drawing for each end of an event, one for new nodes, and the numbers as tables."""
    lead = (
        "Degree: the events of a node before the one that is scored, so how much there was to learn from. A new node "
        "has no event in the training part."
    )
    section = Section("degree", "By node degree, and for new nodes", lead)
    shown = [run for run in runs if "rank" in run.scores]
    for run in runs:
        if run.kind == "stream" and run not in shown:
            section.missing.append(
                f"{run.name} has no {TEST_SCORES}: it is written at the end of a link prediction run."
            )
        elif run.kind == "snapshots":
            section.missing.append(f"{run.name} is a run on snapshots, which keeps no ranks of single events.")
    if not shown:
        return section
    for end in ENDS:
        _by_degree(section, shown, runs, end)
    _by_newness(section, shown, runs)
    return section


def bins_of(degrees: np.ndarray, ranks: np.ndarray) -> list[tuple[int, float | None]]:
    """Events and their MRR in each bin of ``EDGES``; None where there is no event."""
    which = np.digitize(degrees, EDGES) - 1
    counts = np.bincount(which, minlength=len(EDGES))
    sums = np.bincount(which, weights=1 / ranks.astype(np.float64), minlength=len(EDGES))
    return [(int(n), float(total / n) if n else None) for n, total in zip(counts, sums, strict=True)]


def _names() -> list[str]:
    last = [f"{edge}+" for edge in EDGES[-1:]]
    spans = pairwise(EDGES)
    return [str(a) if b == a + 1 else f"{a}–{b - 1}" for a, b in spans] + last  # noqa: RUF001


def _rules(run: Run) -> list[str]:
    return [name for name in RULES if f"rank_{name}" in run.scores]


def _by_degree(section: Section, shown: list[Run], runs: Sequence[Run], end: str) -> None:
    names, lines, rows = _names(), [], []
    for run in shown:
        values = bins_of(run.scores[f"{end}_degree"], run.scores["rank"])
        lines.append(_line(run.name, values, series(list(runs).index(run))))
        rows.append([run.name, *(number(value) for _, value in values)])
        section.figures.setdefault(run.name, {})[end] = {
            name: {"events": count, "mrr": value} for name, (count, value) in zip(names, values, strict=True)
        }
    first_of_data = {run.data: run for run in reversed(shown)}
    for run in first_of_data.values():
        of = f" on {run.data}" if len(first_of_data) > 1 else ""
        for rule in _rules(run):
            values = bins_of(run.scores[f"{end}_degree"], run.scores[f"rank_{rule}"])
            style = {"color": QUIET, "linestyle": RULES[rule], "linewidth": 1.4}
            lines.append(_line(f"rule: {rule}{of}", values, style))
            rows.append([f"rule: {rule}{of}", *(number(value) for _, value in values)])
        counts = bins_of(run.scores[f"{end}_degree"], run.scores["rank"])
        rows.append([f"events{of}", *(amount(count) for count, _ in counts)])
    ticks = [str(EDGES[0]), *(f"{edge}+" for edge in EDGES[1:])]  # up to the next one
    figure = lines_figure(lines, f"degree of the {end}", ticks=ticks)
    section.drawings.append(Drawing(f"degree-{end}", f"test MRR by degree of the {end}", figure))
    section.tables.append(Table(["", *names], rows, set(range(len(shown))), f"Test MRR by degree of the {end}"))


def _line(name: str, values: list[tuple[int, float | None]], style: dict) -> Line:
    points = [(x, y) for x, (_, y) in enumerate(values) if y is not None]
    return Line(name, [x for x, _ in points], [y for _, y in points], style)


def _by_newness(section: Section, shown: list[Run], runs: Sequence[Run]) -> None:
    bars = []
    for run in shown:
        new, ranks = run.scores["new_node"], run.scores["rank"]
        columns = (
            {"": ranks}
            if len(shown) > 1
            else {"": ranks, **{f"rule: {r}": run.scores[f"rank_{r}"] for r in _rules(run)}}
        )
        for rule, of_rule in columns.items():
            for mask, words in ((~new, "seen nodes"), (new, "new nodes")):
                if mask.any():
                    value = float((1 / of_rule[mask].astype(np.float64)).mean())
                    color = SERIES[list(runs).index(run) % len(SERIES)] if not rule else (OTHER if rule else QUIET)
                    label = f"{number(value)}  ({amount(int(mask.sum()))} events)"
                    bars.append(Bar(f"{rule or run.name}: {words}", value, color, label))
                    if not rule:
                        section.figures[run.name][words] = {"events": int(mask.sum()), "mrr": value}
    section.drawings.append(Drawing("new-nodes", "test MRR of events with and without a new node", bars_figure(bars)))
