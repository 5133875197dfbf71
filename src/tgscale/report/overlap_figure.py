"""A drawn timeline: what the workers of a device were doing when, from a run's ``timeline.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tgscale.errors import RunError
from tgscale.report.plan_figure import STYLE

COLOURS = {"graph": "#d6604d", "nn": "#2166ac", "backward": "#92c5de", "all-reduce": "#7b3294", "optimizer": "#1b7837"}
NAMES = {"graph": "ahead: graph operators", "nn": "recurrence and loss", "backward": "backward"}


def draw_timeline(trace: Path, file: Path, first_ms: float = 0.0, last_ms: float | None = None) -> None:
    """Draw the phases of each worker between two times into ``file`` (.svg, .png or .pdf).

    Args:
        trace: a Chrome trace as :func:`~tgscale.train.timeline.write_timeline` writes it.
        file: the picture.
        first_ms, last_ms: what is shown, counted from the trace's first span; to the end unless given.

    Raises:
        RunError: the trace cannot be read, or has no phase of a worker in that time.
    """
    bars = phases(trace, first_ms, last_ms)
    with rc_context(STYLE):
        figure = timeline_figure(bars)
        figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)


def phases(
    trace: Path, first_ms: float = 0.0, last_ms: float | None = None
) -> dict[str, list[tuple[str, float, float]]]:
    """Worker -> (phase, start, length) in milliseconds, of the spans that lie between two times."""
    try:
        events: list[dict[str, Any]] = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{trace} is no timeline: {error!r}. A run writes one with --profile.") from None
    lanes = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = [e for e in events if e["ph"] == "X" and e["name"] in COLOURS]
    last_ms = float("inf") if last_ms is None else last_ms
    bars: dict[str, list[tuple[str, float, float]]] = {}
    for e in sorted(spans, key=lambda e: e["ts"]):
        start, length = e["ts"] / 1000, e["dur"] / 1000
        if start >= first_ms and start + length <= last_ms:
            bars.setdefault(lanes[e["pid"], e["tid"]], []).append((e["name"], start - first_ms, length))
    if not bars:
        raise RunError(f"{trace} shows no phase of a worker from {first_ms:g} to {last_ms:g} ms: choose another time.")
    return dict(sorted(bars.items()))


def timeline_figure(bars: dict[str, list[tuple[str, float, float]]]) -> Figure:
    """A row per worker, a bar per phase."""
    figure = Figure(figsize=(9, 0.9 + 0.5 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, spans in enumerate(bars.values()):
        for name, start, length in spans:
            axes.broken_barh(
                [(start, length)], (row - 0.38, 0.76), facecolors=COLOURS[name], edgecolor="white", linewidth=0.6
            )
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    used = [name for name in COLOURS if any(name == each for spans in bars.values() for each, _, _ in spans)]
    patches = [Patch(color=COLOURS[name], label=NAMES.get(name, name)) for name in used]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(used), frameon=False)
    return figure
