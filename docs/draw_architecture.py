"""Draws the two pictures of architecture.md: `python docs/draw_architecture.py`.

Boxes bring their own pale ground and dark letters, and what lies outside of them is of a middle grey, so that the
pictures can be read on a light page and on a dark one.
"""

from html import escape
from pathlib import Path

INK, SOFT, LINE = "#1f2933", "#52606d", "#7b8794"
FILL = {"top": "#e4e7f7", "engine": "#dbeefe", "middle": "#e3f4e7", "low": "#fdf0d5", "store": "#f9e1e1"}
FONT = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'

HOUSE = [  # highest first; lines of one floor stand side by side
    ("top", [("cli", "parses, calls, prints; no logic of its own")]),
    ("top", [("report", "figures and the HTML page, from run directories alone")]),
    ("engine", [
        ("stream", "continuous time, after DistTGL: batches, layout, schedule, planner, emulator"),
        ("snapshot", "discrete time, after BLAD: operator plan, groups, cost, assignment, workers"),
    ]),
    ("middle", [("train", "what both engines share: run directory, checkpoints, ranks, metrics, configuration")]),
    ("middle", [("models", "whole models, one file each: equations, and nothing of devices, ranks or files")]),
    ("low", [("memory", "node memory and who holds it: one process, a daemon, or every trainer")]),
    ("low", [("nn", "layers: time encoding, temporal attention, memory updater, recurrences, decoders")]),
    ("low", [("graph", "neighbor sampling, histories, aggregation; no learning, no files")]),
    ("store", [("data", "event streams and snapshot sequences: directory, import, formats, generators, splits")]),
    ("store", [("errors", "what went wrong, in words, with an exit code")]),
]  # fmt: skip


def box(x: float, y: float, width: float, height: float, kind: str, title: str, *lines: str) -> str:
    """A rounded box with a title and lines below it."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{FILL[kind]}" stroke="{LINE}"/>']
    parts.append(text(x + 12, y + 21, title, 14, INK, weight=600))
    parts += [text(x + 12, y + 39 + 16 * row, line, 12, SOFT) for row, line in enumerate(lines)]
    return "\n".join(parts)


def text(x: float, y: float, words: str, size: int, colour: str, weight: int = 400, anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    path = " ".join(f"{'ML'[i > 0]}{x} {y}" for i, (x, y) in enumerate(points))
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.8" marker-end="url(#head)"{dash}/>'


def picture(width: int, height: int, title: str, *parts: str) -> str:
    head = (
        f'<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker></defs>'
    )
    body = "\n".join([f"<title>{escape(title)}</title>", head, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>\n{body}\n</svg>\n'


def house() -> str:
    """The lines of the package, one on the other; imports point downwards."""
    parts, y = [], 8
    for kind, lines in HOUSE:
        width = (708 - 12 * (len(lines) - 1)) / len(lines)
        for place, (name, what) in enumerate(lines):
            words = wrap(what, 46) if len(lines) > 1 else [what]
            parts.append(box(8 + place * (width + 12), y, width, 70 if len(lines) > 1 else 52, kind, name, *words))
        y += 82 if len(lines) > 1 else 64
    parts.append(arrow((738, 30), (738, y - 30)))
    parts.append(
        f'<g transform="translate(752 {y / 2}) rotate(90)">{text(0, 0, "imports", 12, LINE, anchor="middle")}</g>'
    )
    return picture(764, y, "The lines of the package, highest first; each imports lower ones only", *parts)


def wrap(words: str, width: int) -> list[str]:
    lines = [""]
    for word in words.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return lines


def step() -> str:
    """One training step on an event stream, from events to what they leave behind."""
    parts = [
        box(8, 8, 224, 86, "store", "events of the batch", "src, dst, time  [B]", "and negatives  [B, C]"),
        box(268, 8, 224, 86, "low", "sample the past", "k events strictly before", "each root: Block  [R, k]"),
        box(528, 8, 224, 86, "low", "read memory", "state and mail of the", "block's nodes  [U, D], [U, 2D]"),
        box(528, 134, 224, 86, "middle", "absorb mail", "s' = GRU([mail || e || phi], s)", "[U, D]; the rest keeps s"),
        box(268, 134, 224, 86, "middle", "attend", "root over its past: s', e,", "phi(t - t_j)  ->  h  [R, D]"),
        box(8, 134, 224, 86, "middle", "score", "source against candidates,", "pair features  ->  [B, C]"),
        box(8, 260, 224, 86, "engine", "loss and gradients", "averaged over all trainers;", "the optimiser steps"),
        box(528, 260, 224, 86, "low", "write back", "sources and destinations: s',", "new mail; the last event wins"),
        arrow((232, 51), (266, 51)),
        arrow((492, 51), (526, 51)),
        arrow((640, 94), (640, 132)),
        arrow((528, 177), (494, 177)),
        arrow((268, 177), (234, 177)),
        arrow((120, 220), (120, 258)),
        arrow((640, 220), (640, 258)),
        arrow((640, 346), (640, 366), (759, 366), (759, 51), (754, 51), dashed=True),
        text(628, 384, "read by the next batch, and by no score of this one", 12, LINE, anchor="end"),
        text(630, 244, "without gradient", 12, LINE, anchor="end"),
    ]
    return picture(768, 396, "A training step on an event stream", *parts)


PICTURES = {"house.svg": house, "step.svg": step}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (Path(__file__).parent / "images" / name).write_text(draw())
