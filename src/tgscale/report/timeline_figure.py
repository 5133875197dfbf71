"""A few steps of a timeline as a picture: a row per trainer, worker and daemon, a bar per span, a colour per kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tgscale.errors import RunError
from tgscale.report.palette import PAPER, STYLE, THEMES
from tgscale.train.timeline import KINDS, kind_of

STEPS = 3
MOST_LANES = 16
WORDS = {
    "graph": "graph operators",
    "nn": "dense operators",
    "backward": "backward",
    "optimizer": "optimiser",
    "memory": "node memory",
    "data": "batches",
    "exchange": "exchange of gradients",
    "wait": "waits",
    "other": "validation and other",
}
ROW = 0.34  # inches
ROUNDING = 0.5  # microseconds: spans that overlap by less follow one another
THINNEST = 1 / 450  # of the width: a shorter span is drawn as long as this, or it could not be seen


@dataclass(frozen=True)
class Block:
    """A span: its name, start and length in milliseconds, and how many spans of its lane it lies within."""

    name: str
    start: float
    length: float
    depth: int


def read_events(file: Path) -> list[dict[str, Any]]:
    """The events of a timeline.

    Raises:
        RunError: it cannot be read, or is none.
    """
    try:
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is no timeline: {error!r}. A run writes one with --profile.") from None
    return list(events)


def draw_steps(file: Path, *drawings: Path, steps: int = STEPS) -> None:
    """Draw some steps from the middle of a ``timeline.json`` into files (.svg, .png or .pdf).

    Raises:
        RunError: the timeline cannot be read, or shows no step.
    """
    events = read_events(file)
    window = middle_steps(events, steps)
    lanes = blocks(events, *window) if window else {}
    if not lanes:
        raise RunError(f"{file} shows no step of training.")
    with rc_context(STYLE):
        figure = steps_figure(lanes)
        for drawing in drawings:
            figure.savefig(drawing, dpi=160, metadata={"Date": None} if drawing.suffix == ".svg" else None)


def middle_steps(events: Sequence[dict[str, Any]], steps: int = STEPS) -> tuple[float, float] | None:
    """Start and end, in microseconds, of some steps in the middle of what was recorded; None where there is none.

    A step ends with the optimiser, as the first process sees it. Steps with a validation between them are passed over.
    """
    ends = sorted(e["ts"] + e["dur"] for e in events if e["ph"] == "X" and e["name"] == "optimizer" and e["pid"] == 0)
    if not ends:
        ends = sorted(e["ts"] + e["dur"] for e in events if e["ph"] == "X" and e["name"] == "device step")
    if len(ends) < 2:
        return None
    steps = min(steps, len(ends) - 1)
    windows = list(zip(ends, ends[steps:], strict=False))
    between = [e["ts"] for e in events if e["ph"] == "X" and e["name"] == "validation"]
    usable = [window for window in windows if not any(window[0] <= at < window[1] for at in between)] or windows
    return min(usable, key=lambda window: abs(windows.index(window) - len(windows) // 2))


def blocks(events: Sequence[dict[str, Any]], first: float, last: float) -> dict[str, list[Block]]:
    """Lane -> its spans between two times, cut off there; times count from ``first``. Empty lanes are left out."""
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    found: dict[tuple[int, int], list[Block]] = {}
    stacks: dict[tuple[int, int], list[float]] = {}
    spans = (e for e in events if e["ph"] == "X" and e["ts"] < last and e["ts"] + e["dur"] > first)
    for e in sorted(spans, key=lambda e: (e["ts"], -e["dur"])):
        key, stack = (e["pid"], e["tid"]), stacks.setdefault((e["pid"], e["tid"]), [])
        while stack and stack[-1] <= e["ts"] + ROUNDING:
            stack.pop()
        start, stop = max(e["ts"], first), min(e["ts"] + e["dur"], last)
        found.setdefault(key, []).append(Block(e["name"], (start - first) / 1000, (stop - start) / 1000, len(stack)))
        stack.append(e["ts"] + e["dur"])
    return {
        _name(processes.get(pid, str(pid)), lanes.get((pid, tid), str(tid))): found[pid, tid]
        for pid, tid in sorted(found)
    }


def _name(process: str, lane: str) -> str:
    return process if lane in ("trainer", "daemon") else f"{process}: {lane}"


def steps_figure(lanes: dict[str, list[Block]]) -> Figure:
    """A row per lane; a span within another is drawn within its bar."""
    shown = dict(list(lanes.items())[:MOST_LANES])
    kinds = [kind for kind in KINDS if any(kind_of(b.name) == kind for bs in shown.values() for b in bs)]
    with rc_context({**STYLE, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(9, 0.95 + ROW * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        width = max(block.start + block.length for spans in shown.values() for block in spans)
        for row, spans in enumerate(shown.values()):
            _draw_lane(axes, row, spans, width)
        axes.set_yticks(range(len(shown)), list(shown))
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, width)
        axes.set_xlabel("ms")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        patches = [Patch(color=THEMES[kind][0], label=WORDS[kind]) for kind in kinds]
        figure.legend(handles=patches, loc="outside upper left", ncols=min(len(kinds), 5), handlelength=1.2)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _draw_lane(axes: Axes, row: int, spans: list[Block], width: float) -> None:
    by_look: dict[tuple[str, int, bool], list[tuple[float, float]]] = {}
    for block in spans:
        thin = block.length < THINNEST * width
        bar = (block.start, max(block.length, THINNEST * width))
        by_look.setdefault((kind_of(block.name), block.depth, thin), []).append(bar)
    for (kind, depth, thin), bars in by_look.items():
        half, color = 0.36 * 0.78**depth, THEMES[kind][0]
        edge = {"linewidth": 0} if thin else {"edgecolor": PAPER, "linewidth": 0.4}
        axes.broken_barh(bars, (row - half, 2 * half), facecolors=color, zorder=2 + depth, **edge)
