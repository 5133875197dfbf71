"""Subcommands: find the one that is meant, or say which there are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tgscale.errors import ConfigError


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


def dispatch(prog: str, about: str, commands: Mapping[str, Command], argv: list[str]) -> None:
    """Run the subcommand that ``argv`` starts with; names may be of several words. Help when it starts with none.

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
    typed = " ".join(word for word in argv[:2] if not word.startswith("-"))
    near = difflib.get_close_matches(typed, commands, n=1, cutoff=0.5)
    hint = f" Did you mean `{prog} {near[0]}`?" if near else ""
    raise ConfigError(f"`{prog} {typed}` is not a command.{hint}\n\n{usage(prog, about, commands)}")


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
