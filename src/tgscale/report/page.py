"""The report as one HTML page that needs nothing beside itself: no script, no font, no picture from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

from tgscale.report.drawing import Drawing
from tgscale.report.palette import SERIES, variables
from tgscale.report.runs import Run
from tgscale.report.section import Section, Table, amount, duration, number
from tgscale.train.metric_names import lower_is_better, metric_name

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$css</style>
</head>
<body>
<header><h1>$title</h1>
$runs
$of<div class="tiles">$tiles</div></header>
<nav aria-label="sections"><div>$links</div></nav>
<main>
$sections
</main>
<footer>Made by <code>tgscale report</code> from the run directories alone. Its figures as JSON: <code>--json</code>; as
files: <code>--figures</code>.</footer>
</body>
</html>
""")

MANY_ROWS, MANY_COLUMNS = 14, 6
"""A table of more rows is folded away; one of more columns is as wide as the page."""


def render(runs: Sequence[Run], sections: Sequence[Section]) -> str:
    """The page.

    Args:
        runs: that it is about.
        sections: in order; those without anything are left out.
    """
    shown = [section for section in sections if not section.empty]
    if any(section.missing for section in sections):
        shown.append(_not_shown(sections))
    light, dark = variables(dark=False), variables(dark=True)
    css = f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    css += resources.files("tgscale.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{runs[0].name}" if len(runs) == 1 else f"{len(runs)} runs compared"
    best = best_of(runs)
    return _PAGE.substitute(
        title=escape(title),
        css=css,
        runs=_runs(runs),
        of=f'<p class="quiet">Of the best run, {escape(best.name)}:</p>' if best and len(runs) > 1 else "",
        tiles="".join(_tiles(best)),
        links=" ".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in shown),
        sections="\n".join(_section(section) for section in shown),
    )


def _runs(runs: Sequence[Run]) -> str:
    items = []
    for place, run in enumerate(runs):
        mark = f'<i style="background: var(--c{place % len(SERIES)})"></i>' if len(runs) > 1 else ""
        what = f"{run.model} on {run.data}" + ("" if run.finished else ", not finished")
        items.append(f'<li>{mark}<b>{escape(run.name)}</b> <span class="quiet">{escape(what)}</span></li>')
    return f'<ul class="runs">{"".join(items)}</ul>'


def _not_shown(sections: Sequence[Section]) -> Section:
    """All that the runs do not hold, in one place."""
    last = Section("missing", "What is not shown, and why")
    for section in sections:
        last.notes += [f"{section.title}: {text}" for text in section.missing]
    return last


def _tiles(run: Run | None) -> list[str]:
    """The few figures that most look for first: of a run alone, or of the best of several on the same data."""
    if run is None:
        return []
    metric = str(run.metric)
    tiles = [_tile(number(run.test[metric]), f"test {metric_name(metric)}")]
    train = run.train
    if "seconds" in train:
        tiles.append(_tile(duration(train["seconds"]), f"training, {train.get('epochs', '?'):.3g} epochs"))
    if train.get("events_per_second"):
        tiles.append(_tile(amount(train["events_per_second"]), "training events per second"))
    if train.get("peak_memory_bytes"):
        tiles.append(_tile(f"{train['peak_memory_bytes'] / 2**20:,.0f} MiB", "peak memory of a process"))
    if run.kind == "stream":
        tiles.append(_tile(str(train.get("layout")), "layout" + (", emulated" if train.get("emulated") else "")))
    else:
        tiles.append(_tile(str(train.get("executor")), "executor"))
    return tiles


def best_of(runs: Sequence[Run]) -> Run | None:
    """The run with the best test metric; None where none has ended, or where they were asked different things."""
    done = [run for run in runs if run.metric in run.test]
    if not done or len({(run.compared, run.metric) for run in done}) > 1:
        return done[0] if len(runs) == 1 and done else None
    sign = -1 if lower_is_better(str(done[0].metric)) else 1
    return max(done, key=lambda run: sign * run.test[str(run.metric)])


def _tile(value: str, words: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>'


def _section(section: Section) -> str:
    lead = f"<p>{escape(section.lead)}</p>" if section.lead else ""
    items = "".join([*map(_drawing, section.drawings), *map(_table, section.tables)])
    grid = f'<div class="grid">{items}</div>' if items else ""
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in section.notes)
    return f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{lead}{grid}{notes}</section>'


def _drawing(drawing: Drawing) -> str:
    note = f"<figcaption>{escape(drawing.note)}</figcaption>" if drawing.note else ""
    kind = ' class="wide"' if drawing.wide else ""
    return f'<figure{kind}><h3>{escape(drawing.title)}</h3><div class="scroll">{drawing.inline()}</div>{note}</figure>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(_row(row, place in table.strong) for place, row in enumerate(table.rows))
    words = ' class="words"' if table.words else ""
    many = len(table.rows) > MANY_ROWS
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption and not many else ""
    text = f"<table{words}>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    text = f'<div class="scroll" tabindex="0">{text}</div>'
    if many:
        summary = f"{table.caption or 'Table'} ({len(table.rows)} rows)"
        text = f"<details><summary>{escape(summary)}</summary>{text}</details>"
    wide = " wide" if many or len(table.columns) > MANY_COLUMNS else ""
    return f'<div class="table{wide}">{text}</div>'


def _row(cells: Sequence[str], strong: bool) -> str:
    opening = '<tr class="strong">' if strong else "<tr>"
    return opening + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
