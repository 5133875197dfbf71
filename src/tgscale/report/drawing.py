"""A figure of the report: as SVG within the page, in the page's colours, and as files of its own."""

from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from tgscale.report.palette import STYLE, THEMES

_COLOURS = {light: f"var(--{name})" for name, (light, _, _) in THEMES.items()}
_ANY_COLOUR = re.compile("|".join(_COLOURS))


@dataclass
class Drawing:
    """A figure with its words.

    Attributes:
        name: of the files, without suffix; unique in a report.
        title: what stands above it.
        figure: drawn in the colours of :mod:`tgscale.report.palette`.
        note: what stands below it.
        wide: as wide as the page, and to be scrolled where the page is narrow.
    """

    name: str
    title: str
    figure: Figure
    note: str = ""
    wide: bool = False

    def inline(self) -> str:
        """An ``<svg>`` element: colours are CSS variables, the page's font is used, ids are its own."""
        buffer = io.StringIO()
        with rc_context(STYLE):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
        text = _ANY_COLOUR.sub(lambda found: _COLOURS[found.group()], text)
        text = re.sub(r"(\bid=\"|href=\"#|url\(#)", rf"\g<1>{self.name}-", text)
        text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", text)
        width, height = (72 * inches for inches in self.figure.get_size_inches())
        opening = (
            f'<svg viewBox="0 0 {width:g} {height:g}" style="--w:{width:g}px" role="img" '
            f'aria-label="{html.escape(self.title)}" xmlns="http://www.w3.org/2000/svg" '
            'xmlns:xlink="http://www.w3.org/1999/xlink">'
        )
        return re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip()

    def save(self, folder: Path) -> list[Path]:
        """Write it as .svg and .png, on white, into a folder that exists; gives their paths."""
        files = [folder / f"{self.name}.{suffix}" for suffix in ("svg", "png")]
        with rc_context(STYLE):
            for file in files:
                self.figure.savefig(file, dpi=160, metadata={"Date": None} if file.suffix == ".svg" else None)
        return files
