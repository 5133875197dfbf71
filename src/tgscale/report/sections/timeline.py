"""A few steps of each run's timeline."""

from __future__ import annotations

from collections.abc import Sequence

from tgscale.report.drawing import Drawing
from tgscale.report.runs import Run
from tgscale.report.section import Section
from tgscale.report.timeline_figure import MOST_LANES, STEPS, blocks, middle_steps, steps_figure
from tgscale.train.run_start import TIMELINE


def timeline(runs: Sequence[Run]) -> Section:
    """A drawing per run that was profiled."""
    lead = f"From {TIMELINE} of the run directory, which opens as a whole in Perfetto or chrome://tracing."
    section = Section("timeline", "Timeline", lead)
    for place, run in enumerate(runs):
        if not run.timeline:
            section.missing.append(f"{run.name} has no {TIMELINE}: train with --profile to have one.")
            continue
        window = middle_steps(run.timeline, STEPS)
        lanes = blocks(run.timeline, *window) if window else {}
        if not lanes or window is None:
            section.missing.append(f"the {TIMELINE} of {run.name} shows no step of training.")
            continue
        note = f"{STEPS} steps from the middle of what was recorded." + (
            f" The first {MOST_LANES} of {len(lanes)} lanes." if len(lanes) > MOST_LANES else ""
        )
        section.drawings.append(
            Drawing(f"timeline-{place}", f"{run.name}: what everybody did when", steps_figure(lanes), note, wide=True)
        )
        section.figures[run.name] = {
            "from_ms": window[0] / 1000,
            "to_ms": window[1] / 1000,
            "lanes": {
                name: {
                    kind: sum(b.length for b in spans if b.name == kind)
                    for kind in dict.fromkeys(b.name for b in spans)
                }
                for name, spans in lanes.items()
            },
        }
    return section
