"""`tgscale train`: preset, then YAML file, then flags; or an interrupted run."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from tgscale.cli.engines import SNAPSHOTS, STREAM, Config, engine_of, engine_of_run, names_data
from tgscale.errors import ConfigError, RunError
from tgscale.snapshot.config import SnapshotConfig
from tgscale.stream.config import TrainConfig
from tgscale.train.distributed import Ranks
from tgscale.train.run_start import data_of, saved_ranks, saved_steps
from tgscale.train.rundir import RESULT, RunDirectory, plain

OF_PATHS = ("--run", "--run-dir", "--data")
"""Options whose value is a path, which is no file of options whatever its name."""


def main(argv: list[str]) -> None:
    """Train as the command line says and print what came out."""
    parser = _Parser("tgscale train", add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--max-restarts", type=int)
    parser.add_argument("--json", action="store_true")
    known, flags = parser.parse_known_args(argv)
    finished = None
    if known.resume:
        beside = _beside_the_run(known, flags)
        engine = engine_of_run(known.resume)
        config = engine.load(known.resume)
        finished = _finished(known.resume)
        data = config.data if finished else data_of(config, beside.data)
        config = dataclasses.replace(config, data=data, quiet=config.quiet if beside.quiet is None else beside.quiet)
    else:
        file, flags = _split_off_file(flags)
        _refuse_bare_word(flags)
        if {"-h", "--help"} & set(flags) and not names_data(file, flags):
            _print_both_helps(flags)
        engine = engine_of(file, flags)
        config = engine.read(known.preset, file, flags)
    workers = _workers(known, config)
    if finished is None and (workers > 1 or known.max_restarts):
        _launch(argv, config, workers, known.max_restarts or 0)
    first = Ranks.from_environment().is_first
    if finished and first and not config.quiet:
        print(f"{known.resume} is finished: nothing is left to train.", file=sys.stderr)
    try:
        result = finished or engine.train(config, resume=bool(known.resume))
    except KeyboardInterrupt as stop:
        code = 128 + getattr(stop, "signal", signal.SIGINT)
        if not first:
            sys.exit(code)
        if config.run.exists():  # a run that has nothing to show yet is gone
            print(f"\ntgscale: stopped. {_how_to_go_on(config)}", file=sys.stderr)
            sys.exit(code)
        raise
    if first and known.json:
        print(json.dumps(plain(result), indent=1))
    elif first and not config.quiet:
        engine.show(result, config.run)


def _beside_the_run(known: argparse.Namespace, flags: list[str]) -> argparse.Namespace:
    """What may be given with --resume, as it is none of the run's own options; all else is refused."""
    parser = _Parser("tgscale train", add_help=False, allow_abbrev=False)
    parser.add_argument("--quiet", action=argparse.BooleanOptionalAction)
    parser.add_argument("--data", type=Path)
    beside, flags = parser.parse_known_args(flags)
    if flags or known.preset:
        raise ConfigError(f"--resume goes on with the options of that run; leave out {(flags or ['--preset'])[0]}.")
    return beside


def _finished(run: Path) -> dict[str, Any] | None:
    """The result of a run that has ended; None where it goes on, or where its file is damaged and is written anew."""
    result = None
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((run / RESULT).read_text(encoding="utf-8"))
    if not (isinstance(result, dict) and result):
        return None
    if Ranks.from_environment().is_first:
        RunDirectory.open(run).close()  # refused while another process is at work on it
    return result


def _print_both_helps(flags: list[str]) -> NoReturn:
    """The options of both engines, as nothing says yet which one is meant."""
    for engine, what in ((STREAM, "an event stream"), (SNAPSHOTS, "snapshots (--data says which data are meant)")):
        print(f"Options on {what}:\n")
        with contextlib.suppress(SystemExit):
            engine.read(None, None, flags)
    sys.exit(0)


def _launch(argv: list[str], config: Config, workers: int, max_restarts: int) -> NoReturn:
    """Run this same command in several processes, and exit as they have."""
    from tgscale.train.launcher import start_workers  # slow to import, and needed here alone

    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    for option in ("--workers", "--max-restarts"):
        argv = _without(argv, option)
    before = saved_steps(config.run)
    try:
        code = start_workers(workers, max_restarts, [*_this_program(), "train", *argv])
    except RunError as error:
        raise RunError(f"{error} {_how_to_go_on(config)}" if saved_steps(config.run) else str(error)) from None
    if code == RunError.exit_code and saved_steps(config.run) != before:  # it broke, and was not refused
        print(f"tgscale: {_how_to_go_on(config)}", file=sys.stderr)
    sys.exit(code)


def _this_program() -> list[str]:
    """What Python is to run in each process: a file of one's own that registers a model, where that is the command."""
    program = Path(sys.argv[0])
    return [str(program)] if program.suffix == ".py" and program.stem != "__main__" else ["-m", "tgscale"]


def _how_to_go_on(config: Config) -> str:
    return f"Go on with: tgscale train --resume {config.run}"


def _without(words: list[str], option: str) -> list[str]:
    """Words of a command line without an option and its value."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = word == option
    return kept


def _workers(known: argparse.Namespace, config: Config) -> int:
    """How many processes to start here; 1 when this process is one of several already, or the only one."""
    asked = known.workers
    if "WORLD_SIZE" in os.environ:
        for option, value in (("--workers", asked), ("--max-restarts", known.max_restarts)):
            if value is not None:
                raise ConfigError(f"{option} is for starting processes, which torchrun has done already: leave it out.")
        return 1
    if asked is not None and asked < 1:
        raise ConfigError(f"--workers is {asked}: give 1 or more.")
    if known.max_restarts is not None and known.max_restarts < 0:
        raise ConfigError(f"--max-restarts is {known.max_restarts}: give 0 or more.")
    if isinstance(config, SnapshotConfig):
        return asked or (saved_ranks(config.run) if known.resume else 1)
    layout = config.run_layout
    if config.emulate is not None:
        if asked and asked > 1:
            raise ConfigError(
                f"--emulate {config.emulate} runs all trainers in one process, and --workers is {asked}: leave one out."
            )
        return 1
    if asked and config.layout != "auto" and layout.world != asked:
        raise ConfigError(
            f"layout {layout} needs {layout.world} trainers, and --workers is {asked}: give --workers {layout.world}"
            + (", or --layout auto." if not known.resume else ", or leave it out.")
        )
    if known.resume and not asked:
        return layout.world  # as many as the run was begun with
    return asked or 1


def read_config(preset: str | None, flags: list[str]) -> TrainConfig:
    """The configuration for a stream that an optional YAML file (one of the words) and flags ask for, on a preset."""
    return STREAM.read(preset, *_split_off_file(flags))


def _split_off_file(flags: list[str]) -> tuple[str | None, list[str]]:
    """An optional YAML file among the words of a command line, and the other words."""
    files = [
        word
        for before, word in zip(["", *flags], flags, strict=False)
        if word.endswith((".yaml", ".yml")) and not word.startswith("-") and before not in OF_PATHS
    ]
    if len(files) > 1:
        raise ConfigError(f"{' and '.join(files)} are two configuration files: give one.")
    return (files[0] if files else None), [word for word in flags if word not in files]


def _refuse_bare_word(flags: list[str]) -> None:
    """A first word that is neither a YAML file nor an option is a data directory, most likely."""
    if flags and not flags[0].startswith("-"):
        raise ConfigError(
            f"{flags[0]} is no YAML file of options. Data are named with --data: tgscale train --data {flags[0]} "
            "--run RUN; a run to go on with is named with --resume."
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"tgscale train: {message}. `tgscale train --help` lists all options.")
