"""The sections of a report, one file each, and the order in which they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tgscale.report.runs import Run
from tgscale.report.section import Section
from tgscale.report.sections.captured import captured
from tgscale.report.sections.curves import curves
from tgscale.report.sections.degree import degree
from tgscale.report.sections.layout import layout
from tgscale.report.sections.options import options
from tgscale.report.sections.result import result
from tgscale.report.sections.timeline import timeline
from tgscale.report.sections.where_time_went import where_time_went

SECTIONS: tuple[Callable[[Sequence[Run]], Section], ...] = (
    result,
    curves,
    degree,
    captured,
    where_time_went,
    layout,
    timeline,
    options,
)
