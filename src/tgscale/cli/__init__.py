"""The command line. It parses, calls and prints; what is done is done below."""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import tgscale
from tgscale.cli.dispatch import Command, dispatch
from tgscale.errors import RunError, TgscaleError


def _later(group: str, name: str, about: str) -> Command:
    """A command that is imported when it is run, so that ``tgscale --help`` does not wait for torch."""

    def module() -> Any:
        return importlib.import_module(f"tgscale.cli.{name}")

    return Command(
        about, lambda argv: module().main(argv), (lambda: module().COMMANDS) if name == "data" else None, group
    )


_GROUPS = {
    "data": {
        "data": "make, fetch, import, export and describe data directories",
    },
    "training": {
        "train": "train on a data directory, or go on with an interrupted run",
        "plan": "choose a layout i x j x k for some machines, from the data and a device's speed",
    },
    "results": {
        "evaluate": "evaluate the best weights of a run",
        "predict": "score new events, answer queries, or forecast snapshots, with a run",
        "export": "write the weights and the memory of a run into a folder, for programs of your own",
        "report": "one HTML page about runs: results, curves, timelines, and how they differ",
    },
    "snapshot models, looked into": {
        "explain": "print the operator plan of a snapshot model: what runs when, and what the rewrites save",
        "simulate": "an epoch on many devices, replayed from the costs of snapshot groups",
    },
}
COMMANDS = {name: _later(group, name, about) for group, commands in _GROUPS.items() for name, about in commands.items()}
ABOUT = """\
Train temporal graph networks on streams of events and on sequences of snapshots, evaluate them, and predict what comes
next. A first try: tgscale data generate stream --out data/a; tgscale train --data data/a --run runs/a"""
OPTIONS = """\
other options:
  --version                        print the version
  --print-completion SHELL         print a script that completes commands and options, for bash, zsh or fish"""

PLACES = {
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "ENOENT", "ENOTDIR", "EISDIR", "ENAMETOOLONG")
}
"""Errors of the system that are about a place that somebody named, and no fault of the program."""


def main() -> None:
    """Entry point of ``tgscale``."""
    try:
        _main(sys.argv[1:])
    except BaseException as end:
        if ranks := sys.modules.get("tgscale.train.distributed"):
            ranks.end_if_connected(end)
        raise


def _main(argv: list[str]) -> None:
    # Before torch loads: OpenMP threads that spin while they wait starve each other as soon as a core is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if argv == ["--version"]:
        print(f"tgscale {tgscale.__version__}")
        return
    try:
        if argv[:1] == ["--print-completion"]:
            print(importlib.import_module("tgscale.cli.completion").script(" ".join(argv[1:]), COMMANDS), end="")
            return
        dispatch("tgscale", ABOUT, COMMANDS, argv, ("--version", "--print-completion", "--help"))
        if argv in ([], ["-h"], ["--help"]):
            print(f"\n{OPTIONS}")
    except TgscaleError as error:
        if _is_first_to_say(str(error)):
            print("\n".join([f"tgscale: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as stop:
        if _is_first_to_say("stopped"):
            print(" ".join(["\ntgscale: stopped.", *getattr(stop, "__notes__", [])]), file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `tgscale ... | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno not in PLACES:
            raise
        where = error.filename or "what is printed"
        print(f"tgscale: {where} cannot be read or written ({error.strerror}): name another place.", file=sys.stderr)
        sys.exit(RunError.exit_code)


def _is_first_to_say(text: str) -> bool:
    """Whether no other process that the same ``torchrun`` has started has said this: what all find out, one says."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")  # in a folder of this rank, in one of all ranks of this machine
    if not file:
        return True
    try:
        os.close(os.open(Path(file).parents[1] / hashlib.sha256(text.encode()).hexdigest(), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    except OSError:
        pass
    return True
