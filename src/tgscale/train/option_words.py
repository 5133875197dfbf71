"""What tyro says of a command line, in words for those who typed it."""

from __future__ import annotations

import re

_NUMBERS = (
    (r"invalid literal for int\(\) with base 10: ('[^']*')", r"\1 is no whole number"),
    (r"could not convert string to float: ('[^']*')", r"\1 is no number"),
)
_SUGGESTIONS = re.compile(r"(?<=Perhaps you meant:\n)((?:    .*(?:\n|\Z))+)")
_SUGGESTION = re.compile(r"    -.*(?:\n|\Z)(?:     +.*(?:\n|\Z))*")


def unboxed(printed: str) -> str:
    """What tyro printed, without colours, title and frame, and with wrapped lines put together."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()
    rows = [line[2:-1].rstrip() for line in lines[1:]]
    text = "\n".join("" if set(row) <= set("─-") else row for row in rows)
    return re.sub(r"\n{2,}", "\n", re.sub(r"(?<=\S)\n(?=\S)", " ", text)).strip()


def reworded(text: str, prog: str | None) -> str:
    """The same in plain words.

    Args:
        text: of :func:`unboxed`.
        prog: the command as ``--help`` shows it; in messages it is named without what may follow, to be pasted.
    """
    for pattern, words in _NUMBERS:
        text = re.sub(pattern, words, text)
    if prog is not None:
        shown = r"\s+".join(map(re.escape, prog.split()))
        text = re.sub(shown, prog.partition(" [")[0], text)
    text = re.sub(r"For full helptext, (?:run|see):?\s+", "For full helptext, run ", text)
    return _SUGGESTIONS.sub(_training_first, text)


def _training_first(found: re.Match[str]) -> str:
    """Suggested options in their order, but those of training first: ``--epochs`` is one of them, most likely."""
    options = _SUGGESTION.findall(found[0])
    options = [option if option.endswith("\n") else f"{option}\n" for option in options]
    ordered = "".join(sorted(options, key=lambda option: not option.startswith("    --train.")))
    return ordered if found[0].endswith("\n") else ordered.removesuffix("\n")
