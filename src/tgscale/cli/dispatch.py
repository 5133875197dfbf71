"""Subcommands: find the one that is meant, or say which there are."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tgscale.errors import ConfigError

LEAST_LIKENESS = 0.5
"""Of a name to what was typed, to be suggested."""


class Command(NamedTuple):
    """One subcommand.

    Attributes:
        about: a line on what it does.
        run: takes its arguments.
        parts: gives the commands that it is made of, if any.
        group: heading in the overview.
    """

    about: str
    run: Callable[[list[str]], None]
    parts: Callable[[], Mapping[str, Command]] | None = None
    group: str = ""


def dispatch(
    prog: str, about: str, commands: Mapping[str, Command], argv: list[str], options: Sequence[str] = ()
) -> None:
    """Run the subcommand that ``argv`` starts with; names may be of several words. Help when it starts with none.

    Args:
        prog: the command so far.
        about: a line on what it does.
        commands: the subcommands by name.
        argv: the words that were typed after it.
        options: what it takes in place of a subcommand, to be suggested.

    Raises:
        ConfigError: no such subcommand; the message gives the nearest one.
    """
    for name, command in commands.items():
        words = name.split()
        if argv[: len(words)] == words:
            return command.run(argv[len(words) :])
    if not argv or argv[0] in ("-h", "--help") or argv[-1] in ("-h", "--help"):
        print(usage(prog, about, commands))
        return None
    if argv[0].startswith("-"):
        raise ConfigError(f"`{prog}` has no option {argv[0]}.\n\n{usage(prog, about, commands)}")
    typed, near = _nearest(commands, argv, options)
    hint = f" Did you mean `{prog} {near}`?" if near else ""
    raise ConfigError(f"`{prog} {typed}` is not a command.{hint}\n\n{usage(prog, about, commands)}")


def _nearest(commands: Mapping[str, Command], argv: list[str], options: Sequence[str]) -> tuple[str, str | None]:
    """The words that were meant as a command (what follows is its own), and the command or option most like them."""
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    names = [(name, name) for name in commands]
    for name, command in commands.items():
        names += [(part, f"{name} {part}") for part in (command.parts() if command.parts else ())]
    names += [(option.lstrip("-"), option) for option in options]
    best: tuple[float, str, str | None] = (LEAST_LIKENESS, words[0], None)
    for name, whole in names:
        typed = " ".join(words[: len(name.split())])
        likeness = difflib.SequenceMatcher(None, typed, name).ratio()
        if likeness > best[0]:
            best = (likeness, typed, whole)
    return best[1:]


def usage(prog: str, about: str, commands: Mapping[str, Command]) -> str:
    """What ``--help`` prints."""
    width = max(map(len, commands))
    lines: list[str] = []
    group = ""
    for name, command in commands.items():
        if command.group != group:
            group = command.group
            lines += [*([""] if lines else []), f"{group}:"]
        lines.append(f"  {name:<{width}}  {command.about}")
    return "\n".join([f"usage: {prog} COMMAND ...", "", about, "", *lines, "", f"`{prog} COMMAND --help` tells more."])
