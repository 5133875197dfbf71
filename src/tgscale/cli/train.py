"""`tgscale train`: preset, then YAML file, then flags; or an interrupted run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn, cast

import tyro

from tgscale.cli.table import print_result
from tgscale.errors import ConfigError
from tgscale.stream.config import PRESETS, TrainConfig
from tgscale.stream.trainer import load_config, train_stream
from tgscale.train.config_io import parse, read_yaml


def main(argv: list[str]) -> None:
    """Train as the command line says and print what came out."""
    parser = _Parser("tgscale train", add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--preset")
    known, flags = parser.parse_known_args(argv)
    if known.resume:
        if flags or known.preset:
            raise ConfigError(f"--resume goes on with the options of that run; leave out {(flags or ['--preset'])[0]}.")
        config = load_config(known.resume)
    else:
        config = read_config(known.preset, flags)
    try:
        result = train_stream(config, resume=bool(known.resume))
    except KeyboardInterrupt:
        if config.run.exists():  # a run without a finished epoch is gone
            print(f"\ntgscale: stopped. Go on with: tgscale train --resume {config.run}", file=sys.stderr)
            sys.exit(130)
        raise
    if not config.quiet:
        print_result(result, config.run)


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
    return parse(TrainConfig, flags, default=default, yaml_path=file, prog="tgscale train [CONFIG.yaml | --resume RUN]")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"tgscale train: {message}. `tgscale train --help` lists all options.")
