"""An operator plan as a picture: a column per stage, a box per operator, arrows from what it takes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch, Rectangle
from matplotlib.path import Path as Line

from tgscale.data.files import write_atomically
from tgscale.report.plan_figure import INK, STYLE
from tgscale.snapshot.describe import Operator

COLORS = {"graph": "#f4a582", "dense": "#92c5de", "elementwise": "#e6e6e6"}
LANES = {
    "once": "once per run",
    "ahead": "all steps at once",
    "scan": "recurrence, one call",
    "loop": "at each step",
    "after": "all steps at once, after",
}
ARROW, LANE = "#555555", "#f7f7f7"
BOX, GAP, LANE_GAP, PAD = 2.3, 0.36, 0.14, 0.3  # inches
LINE, ROW_GAP, HEAD, FOOT = 0.155, 0.34, 0.5, 0.5
LETTERS = 31
"""Of a line within a box."""

Place = tuple[float, float]


def draw_plan(operators: Sequence[Operator], file: Path) -> None:
    """Draw a plan into a file, all or nothing; equal plans make equal files.

    Args:
        operators: of the plan, as :func:`tgscale.snapshot.describe.describe` gives them.
        file: its suffix says the format: ``.dot`` for Graphviz, or one that matplotlib knows, such as ``.svg``.
    """
    if file.suffix == ".dot":
        write_atomically(file, plan_dot(operators))
        return
    with rc_context(STYLE):
        write_atomically(file, picture_of(plan_figure(operators), file.suffix))


def picture_of(figure: Figure, suffix: str) -> bytes:
    """A figure in the format of a suffix, without the time of day."""
    undated: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix.lstrip("."), dpi=160, metadata=undated.get(suffix))
    return buffer.getvalue()


def plan_dot(operators: Sequence[Operator]) -> str:
    """A plan as Graphviz text: a cluster per stage."""
    lines = ["digraph plan {", '  node [shape=box, style=filled, fontname="DejaVu Sans"];']
    for stage, title in LANES.items():
        inside = [each for each in operators if each.stage == stage]
        if not inside:
            continue
        lines += [f"  subgraph cluster_{stage} {{", f'    label="{title}";']
        for each in inside:
            label = "\\n".join(word.replace('"', r"\"") for word in words_of(each))
            lines.append(f'    op{each.number} [label="{label}", fillcolor="{COLORS[each.kind]}"];')
        lines.append("  }")
    lines += [f"  op{source} -> op{each.number};" for each in operators for source in each.inputs]
    return "\n".join([*lines, "}", ""])


def words_of(operator: Operator) -> list[str]:
    """Lines of an operator's box: number and formula, and the size of its work."""
    lines = textwrap.wrap(f"#{operator.number}  {operator.what}", LETTERS, max_lines=3, placeholder=" ...")
    return [*lines, f"{amount(operator.flops, 'FLOP')}, {amount(operator.bytes, 'B')}"]


def amount(value: float, unit: str) -> str:
    """A number with three digits and a prefix: ``1.23 MB``."""
    for prefix in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:,.3g} T{unit}"


def grid_of(operators: Sequence[Operator]) -> dict[int, tuple[int, int]]:
    """Row and place within its stage's column, for each operator by number.

    An operator stands a row below the lowest of its inputs, under the first of them where there is room.
    """
    stages = {each.number: each.stage for each in operators}
    found: dict[int, tuple[int, int]] = {}
    taken: set[tuple[str, int, int]] = set()
    for each in operators:
        row = max((found[source][0] + 1 for source in each.inputs), default=0)
        place = next((found[source][1] for source in each.inputs if stages[source] == each.stage), 0)
        while (each.stage, row, place) in taken:
            place += 1
        taken.add((each.stage, row, place))
        found[each.number] = row, place
    return found


def plan_figure(operators: Sequence[Operator]) -> Figure:
    """The figure; its axes are in inches from the upper left corner."""
    grid = grid_of(operators)
    words = {each.number: words_of(each) for each in operators}
    height = LINE * max((len(lines) for lines in words.values()), default=1) + 0.16
    lefts, right = {}, LANE_GAP
    lanes: list[tuple[str, float, float]] = []
    for stage in LANES:
        places = [grid[each.number][1] for each in operators if each.stage == stage]
        if places:
            width = (max(places) + 1) * (BOX + GAP) - GAP + 2 * PAD
            lanes.append((stage, right, width))
            lefts[stage] = right + PAD
            right += width + LANE_GAP
    rows = max((row for row, _ in grid.values()), default=0) + 1
    bottom = HEAD + rows * (height + ROW_GAP)
    size = max(right, 4.0), bottom + FOOT
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    for stage, left, width in lanes:
        axes.add_patch(Rectangle((left, 0.1), width, bottom - 0.1, facecolor=LANE, edgecolor="#dddddd", linewidth=0.8))
        axes.text(left + width / 2, 0.3, LANES[stage], ha="center", va="center", fontweight="bold", fontsize=9.5)
    corner = {
        each.number: (
            lefts[each.stage] + grid[each.number][1] * (BOX + GAP),
            HEAD + grid[each.number][0] * (height + ROW_GAP),
        )
        for each in operators
    }
    for each in operators:
        _box(axes, each, words[each.number], corner[each.number], height)
        for source in each.inputs:
            _arrow(axes, (source, each.number), corner, height)
    handles = [Patch(facecolor=color, edgecolor=INK, linewidth=0.6, label=kind) for kind, color in COLORS.items()]
    axes.legend(handles=handles, loc="lower left", ncols=3, frameon=False, fontsize=9, borderaxespad=0.6)
    return figure


def _box(axes: Axes, operator: Operator, lines: list[str], corner: Place, height: float) -> None:
    x, y = corner
    style = "round,pad=0,rounding_size=0.06"
    color = COLORS[operator.kind]
    box = FancyBboxPatch((x, y), BOX, height, boxstyle=style, facecolor=color, edgecolor=INK, linewidth=0.8, zorder=2)
    box.set_gid(f"operator-{operator.number}")
    axes.add_patch(box)
    for k, line in enumerate(lines):
        last = k == len(lines) - 1
        at = y + height - 0.15 if last else y + 0.16 + k * LINE
        axes.text(
            x + BOX / 2,
            at,
            line,
            ha="center",
            va="center",
            fontsize=7.5 if last else 8.2,
            color="#555555" if last else INK,
            zorder=3,
        )


def _arrow(axes: Axes, ends: tuple[int, int], corner: dict[int, Place], height: float) -> None:
    """Straight down to the next row; else level out of the side, down beside the target's column, and into its side."""
    (x0, y0), (x1, y1) = corner[ends[0]], corner[ends[1]]
    level, middle = y0 + height / 2, y1 + height / 2
    if x0 == x1 and y1 - y0 < 1.5 * (height + ROW_GAP):
        points = [(x0 + BOX / 2, y0 + height), (x1 + BOX / 2, y1)]
    elif x0 == x1:
        beside = x1 + BOX + 0.18
        points = [(x0 + BOX, level), (beside, level), (beside, middle), (x1 + BOX, middle)]
    elif x0 < x1:
        points = [(x0 + BOX, level), (x1 + 0.35, level), (x1 + 0.35, y1)]
    else:
        points = [(x0, level), (x1 + BOX - 0.35, level), (x1 + BOX - 0.35, y1)]
    arrow = FancyArrowPatch(
        path=_rounded(points), arrowstyle="-|>", mutation_scale=9, color=ARROW, linewidth=1.1, zorder=1.5
    )
    arrow.set_fill(True)
    arrow.set_gid(f"input-{ends[0]}-{ends[1]}")
    axes.add_patch(arrow)


def _rounded(points: list[Place], radius: float = 0.1) -> Line:
    """A line through points that are joined by level and upright pieces, its corners rounded."""
    vertices, codes = [points[0]], [Line.MOVETO]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(at, before, radius), at, _towards(at, after, radius)]
        codes += [Line.LINETO, Line.CURVE3, Line.CURVE3]
    return Line([*vertices, points[-1]], [*codes, Line.LINETO])


def _towards(at: Place, other: Place, distance: float) -> Place:
    length = abs(other[0] - at[0]) + abs(other[1] - at[1])
    share = min(distance / length, 0.5) if length else 0.0
    return at[0] + share * (other[0] - at[0]), at[1] + share * (other[1] - at[1])
