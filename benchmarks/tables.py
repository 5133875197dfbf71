"""Tables of the documentation: Markdown, written between a pair of markers of a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_between(page: Path, marker: str, text: str) -> None:
    """Put ``text`` between ``<!-- marker -->`` and ``<!-- /marker -->`` of a page, in place of what is there.

    Raises:
        ValueError: the page does not have that pair exactly once.
    """
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    written = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    if written.count(start) != 1 or written.count(end) != 1 or not pattern.search(written):
        raise ValueError(f"{page} must have {start} and after it {end}, once each.")
    page.write_text(pattern.sub(lambda _: f"{start}\n\n{text.strip()}\n\n{end}", written), encoding="utf-8")


def publish(page: Path, marker: str, text: str, write: bool) -> None:
    """Print a text, and put it between the markers of a page where that is asked for."""
    print(text, flush=True)
    if write:
        write_between(page, marker, text)
