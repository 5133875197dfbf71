"""`tgscale train`: preset, then YAML file, then flags; or an interrupted run."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import tyro

from tgscale.cli.table import print_result
from tgscale.errors import ConfigError, RunError
from tgscale.stream.config import PRESETS, TrainConfig
from tgscale.stream.trainer import load_config, saved_steps, train_stream
from tgscale.train.config_io import parse, read_yaml
from tgscale.train.distributed import Ranks


def main(argv: list[str]) -> None:
    """Train as the command line says and print what came out."""
    parser = _Parser("tgscale train", add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--preset")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--max-restarts", type=int)
    known, flags = parser.parse_known_args(argv)
    if known.resume:
        if flags or known.preset:
            raise ConfigError(f"--resume goes on with the options of that run; leave out {(flags or ['--preset'])[0]}.")
        config = load_config(known.resume)
    else:
        config = read_config(known.preset, flags)
    workers = _workers(known, config)
    if workers > 1 or known.max_restarts:
        _launch(argv, config, workers, known.max_restarts or 0)
    first = Ranks.from_environment().is_first
    try:
        result = train_stream(config, resume=bool(known.resume))
    except KeyboardInterrupt:
        if not first:
            sys.exit(130)
        if config.run.exists():  # a run that has nothing to show yet is gone
            print(f"\ntgscale: stopped. {_how_to_go_on(config)}", file=sys.stderr)
            sys.exit(130)
        raise
    if not config.quiet and first:
        print_result(result, config.run)


def _launch(argv: list[str], config: TrainConfig, workers: int, max_restarts: int) -> NoReturn:
    """Run this same command in several processes, and exit as they have."""
    from tgscale.train.launcher import start_workers  # slow to import, and needed here alone

    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    for option in ("--workers", "--max-restarts"):
        argv = _without(argv, option)
    before = saved_steps(config.run)
    try:
        code = start_workers(workers, max_restarts, ["tgscale", "train", *argv])
    except RunError as error:
        raise RunError(f"{error} {_how_to_go_on(config)}" if saved_steps(config.run) else str(error)) from None
    if code == RunError.exit_code and saved_steps(config.run) != before:  # it broke, and was not refused
        print(f"tgscale: {_how_to_go_on(config)}", file=sys.stderr)
    sys.exit(code)


def _how_to_go_on(config: TrainConfig) -> str:
    return f"Go on with: tgscale train --resume {config.run}"


def _without(words: list[str], option: str) -> list[str]:
    """Words of a command line without an option and its value."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = word == option
    return kept


def _workers(known: argparse.Namespace, config: TrainConfig) -> int:
    """How many processes to start here; 1 when this process is one of several already, or the only one."""
    asked, layout = known.workers, config.run_layout
    if "WORLD_SIZE" in os.environ:
        for option, value in (("--workers", asked), ("--max-restarts", known.max_restarts)):
            if value is not None:
                raise ConfigError(f"{option} is for starting processes, which torchrun has done already: leave it out.")
        return 1
    if asked is not None and asked < 1:
        raise ConfigError(f"--workers is {asked}: give 1 or more.")
    if known.max_restarts is not None and known.max_restarts < 0:
        raise ConfigError(f"--max-restarts is {known.max_restarts}: give 0 or more.")
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
    """The configuration that an optional YAML file (one of the words) and flags ask for, on top of a preset."""
    files = [word for word in flags if word.endswith((".yaml", ".yml")) and not word.startswith("-")]
    if len(files) > 1:
        raise ConfigError(f"{' and '.join(files)} are two configuration files: give one.")
    file = files[0] if files else None
    flags = [word for word in flags if word != file]
    preset = preset or (read_yaml(file) if file else {}).get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown: choose one of {', '.join(PRESETS)}.")
    missing = cast(Any, tyro.MISSING)
    default = PRESETS[preset](missing, missing)
    flags = [f"--preset={preset}", *flags]  # what the file says of it, a flag may have overruled
    return parse(TrainConfig, flags, default=default, yaml_path=file, prog=USAGE)


USAGE = "tgscale train [CONFIG.yaml | --resume RUN] [--workers N [--max-restarts N]]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"tgscale train: {message}. `tgscale train --help` lists all options.")
