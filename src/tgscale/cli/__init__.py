"""The command line. It parses, calls and prints; what is done is done below."""

from __future__ import annotations

import difflib
import importlib
import sys

import tgscale
from tgscale.errors import TgscaleError

COMMANDS = {
    "data": "make, import and describe data",
    "train": "train on a data directory, or go on with an interrupted run",
    "evaluate": "evaluate the best weights of a run",
}


def main() -> None:
    """Entry point of ``tgscale``."""
    argv = sys.argv[1:]
    try:
        sys.exit(_run(argv))
    except TgscaleError as error:
        print(f"tgscale: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\ntgscale: stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `tgscale ... | head`
        sys.stderr.close()
        sys.exit(0)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        print(f"tgscale {tgscale.__version__}")
        return 0
    if argv[0] not in COMMANDS:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        print(f"tgscale: {argv[0]!r} is not a command.{hint}\n\n{_usage()}", file=sys.stderr)
        return 2
    # Imported here, so that `tgscale --help` does not wait for torch.
    importlib.import_module(f"tgscale.cli.{argv[0]}").main(argv[1:])
    return 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: tgscale COMMAND ...", "", "Train dynamic graph neural networks.", "", *lines, "",
         "tgscale COMMAND --help tells more; tgscale --version prints the version."]
    )  # fmt: skip
