"""The two engines as the command line sees them: which one some data or a run belong to, and how each is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import tyro

from tgscale.cli.table import print_result, print_snapshot_result
from tgscale.data.store import kind_of
from tgscale.errors import ConfigError
from tgscale.models.stream_models import STREAM_MODELS
from tgscale.snapshot.build import MODELS as SNAPSHOT_MODELS
from tgscale.snapshot.config import SnapshotConfig
from tgscale.snapshot.trainer import load_config as load_snapshot_config
from tgscale.snapshot.trainer import train_snapshots
from tgscale.stream.config import PRESETS, TrainConfig
from tgscale.stream.trainer import load_config, train_stream
from tgscale.train.config_io import parse, read_yaml
from tgscale.train.rundir import RunDirectory

Config = TrainConfig | SnapshotConfig
USAGE = "tgscale train [CONFIG.yaml | --resume RUN] [--workers N [--max-restarts N]] [--json]"


@dataclass(frozen=True)
class Engine:
    """How an engine is called.

    Attributes:
        read: a configuration from preset, YAML file and flags.
        load: the configuration of a run.
        train: the run itself, from a configuration and whether to go on.
        show: prints a result; takes it and the run directory.
    """

    read: Callable[[str | None, str | None, list[str]], Any]
    load: Callable[[Path], Any]
    train: Callable[..., dict[str, Any]]
    show: Callable[[dict[str, Any], Path], None]


def engine_of_run(run: Path) -> Engine:
    """The engine that a run belongs to."""
    return SNAPSHOTS if RunDirectory.kind_of(run) == "snapshots" else STREAM


def names_data(file: str | None, flags: list[str]) -> str | None:
    """The data directory that a YAML file or flags name."""
    data = read_yaml(file).get("data") if file else None
    for at, word in enumerate(flags):
        if word == "--data" and at + 1 < len(flags):
            data = flags[at + 1]
        elif word.startswith("--data="):
            data = word.partition("=")[2]
    return data


def engine_of(file: str | None, flags: list[str]) -> Engine:
    """The engine for the data that a YAML file or flags name; that of streams where none are named yet."""
    data = names_data(file, flags)
    if data is None:
        return STREAM
    return SNAPSHOTS if kind_of(Path(str(data)).expanduser()) == "snapshots" else STREAM


def _read_stream(preset: str | None, file: str | None, flags: list[str]) -> TrainConfig:
    preset = preset or (read_yaml(file) if file else {}).get("preset", "default")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown: choose one of {', '.join(PRESETS)}.")
    missing = cast(Any, tyro.MISSING)
    flags = [word for at, word in enumerate(flags) for word in _model_flag(flags, at)]
    default = PRESETS[preset](missing, missing, _model_named(file, flags))
    flags = [f"--preset={preset}", *flags]  # what the file says of it, a flag may have overruled
    return parse(TrainConfig, flags, default=default, yaml_path=file, prog=USAGE)


def _model_flag(flags: list[str], at: int) -> list[str]:
    """A word of a command line, with ``--model NAME`` written as ``--model.name=NAME``."""
    word = flags[at]
    if at and flags[at - 1] == "--model":
        return []
    if word == "--model" and at + 1 < len(flags):
        return [f"--model.name={flags[at + 1]}"]
    return [f"--model.name={word.partition('=')[2]}" if word.startswith("--model=") else word]


def _model_named(file: str | None, flags: list[str]) -> str:
    """The model that flags or else a YAML file name; TGN where neither does."""
    given = (read_yaml(file) if file else {}).get("model") or {}
    name = _model_in(flags) or (given.get("name", "tgn") if isinstance(given, dict) else given)
    if name not in STREAM_MODELS and name in SNAPSHOT_MODELS:
        known = ", ".join(STREAM_MODELS)
        raise ConfigError(f"model {name} is for snapshots, and the data are an event stream: choose one of {known}.")
    return str(name)


def _model_in(flags: list[str]) -> str | None:
    """The model that ``--model.name`` names, the last time; None where there is none."""
    name = None
    for at, word in enumerate(flags):
        if word == "--model.name" and at + 1 < len(flags):
            name = flags[at + 1]
        elif word.startswith("--model.name="):
            name = word.partition("=")[2]
    return name


def _read_snapshots(preset: str | None, file: str | None, flags: list[str]) -> SnapshotConfig:
    if preset is not None:
        raise ConfigError(
            "--preset is for event streams, and the data are snapshots: leave it out, and choose --model."
        )
    if file and "preset" in read_yaml(file):
        raise ConfigError(f"{file} holds options of a run on an event stream, and the data are snapshots.")
    model = _model_in([word for at in range(len(flags)) for word in _model_flag(flags, at)])
    model = model or (read_yaml(file) if file else {}).get("model")
    if model in STREAM_MODELS and model not in SNAPSHOT_MODELS:
        known = ", ".join(SNAPSHOT_MODELS)
        raise ConfigError(f"model {model} is for event streams, and the data are snapshots: choose one of {known}.")
    return parse(SnapshotConfig, flags, yaml_path=file, prog=USAGE)


STREAM = Engine(_read_stream, load_config, train_stream, print_result)
SNAPSHOTS = Engine(_read_snapshots, load_snapshot_config, train_snapshots, print_snapshot_result)
