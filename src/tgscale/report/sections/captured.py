"""Events that the node memory captures, against the batch size (DistTGL, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from tgscale.report.drawing import Drawing
from tgscale.report.lines import Line, lines_figure
from tgscale.report.palette import series
from tgscale.report.runs import Run
from tgscale.report.section import Section


def captured(runs: Sequence[Run]) -> Section:
    """A drawing per data set and batch size."""
    lead = (
        "A node keeps one mail per batch, its last: the other events of the node in that batch never reach the memory. "
        "The share that is captured depends on the data and the global batch alone."
    )
    section = Section("captured", "Events that the memory captures", lead)
    drawn: set[tuple] = set()
    for run in runs:
        if run.kind != "stream":
            continue
        curve = run.result.get("captured")
        if not curve:
            why = "it is still going, or was cut short" if not run.finished else "it was made by an earlier version"
            section.missing.append(f"{run.name} does not hold what the memory captures: {why}.")
            continue
        section.figures[run.name] = curve
        key = (run.data, curve["local_batch"], curve["global_batch"], tuple(curve["batch_sizes"]))
        if key not in drawn:
            drawn.add(key)
            _draw(section, run, curve, len(drawn))
    return section


def _draw(section: Section, run: Run, curve: dict, place: int) -> None:
    sizes, whole = curve["batch_sizes"], curve["global_batch"]
    lines = [
        Line("all nodes", sizes, [1 - share for share in curve["missing"]], series(0)),
        Line(
            f"busiest 1 % ({curve['busy_nodes']:,})", sizes, [1 - share for share in curve["missing_busy"]], series(1)
        ),
    ]
    local = curve["local_batch"]
    marks = [(whole, f"global batch {whole:,}" if whole != local else f"batch {whole:,}")]
    if whole != local:
        marks.append((local, f"local batch {local:,}"))
    at = sizes.index(whole)
    note = (
        f"At the global batch of this run {1 - curve['missing'][at]:.1%} of the events of all nodes are captured, and "
        f"{1 - curve['missing_busy'][at]:.1%} of those of the busiest nodes."
    )
    figure = lines_figure(lines, "events per global batch", percent=True, doubling=True, marks=marks)
    section.drawings.append(Drawing(f"captured-{place}", f"{run.data}: share of events captured", figure, note))
