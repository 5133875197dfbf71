"""`tgscale evaluate`: score the best weights of a run again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tgscale.cli.table import print_metrics, print_snapshot_metrics
from tgscale.errors import ConfigError
from tgscale.snapshot.trainer import evaluate_snapshots
from tgscale.stream.config import OF_PROTOCOL
from tgscale.stream.trainer import evaluate
from tgscale.train.config_io import parse
from tgscale.train.rundir import RunDirectory, plain

EVAL_OPTIONS = sorted(OF_PROTOCOL)


@dataclass
class EvaluateCommand:
    """Evaluate the best weights of a run, beside the rules, on the same negatives."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    split: Literal["val", "test"] = "test"
    """Which part of the stream."""
    protocol: Literal["mrr49", "mrr49-optimistic", "ap", "ap-tgl", "ap-pyg", "ap-dyglib", "tgb"] | None = None
    """mrr49: against 49 random destinations. ap: against one; ap-tgl, ap-pyg, ap-dyglib: by the exact rule of that
    project. tgb: against TGB's negatives. As in training unless given."""
    negatives: Literal["random", "historical", "inductive"] | None = None
    """Kind of negatives, as --eval.negatives of training. The protocol's own unless given."""
    negatives_from: Path | None = None
    """Folder with TGB's files of negatives."""
    negatives_per_event: int | None = None
    """As the protocol says unless given."""
    population: Literal["destinations", "all", "range"] | None = None
    """Where random negatives come from, unless the protocol says."""
    exclude_own: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Never draw an event's own destination as its negative. As in training unless given."""
    no_exclude_own: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """An event's own destination may be among its negatives, even if it was not in training."""
    batch_size: int | None = None
    """Events per batch. As in training unless given."""
    seed: int | None = None
    """Seed of the negatives. As in training unless given."""
    data: Path | None = None
    """The run's data directory, where it has moved."""
    device: str | None = None
    """As in training unless given."""
    json: bool = False
    """Print JSON instead of a table."""
    quiet: bool = False
    """Show no progress."""


def main(argv: list[str]) -> None:
    """Evaluate as the command line says and print the metrics."""
    command = parse(EvaluateCommand, argv, prog="tgscale evaluate")
    if RunDirectory.kind_of(command.run) == "snapshots":
        _evaluate_snapshots(command)
        return
    quiet = command.quiet or command.json
    options = _eval_options(command)
    result = evaluate(command.run, command.split, command.protocol, command.device, quiet, command.data, **options)
    if command.json:
        print(json.dumps(plain(result), indent=1, allow_nan=False))
    else:
        model = RunDirectory.read_config(command.run)["model"].get("name", "tgn")
        print_metrics(
            result["split"], result["metrics"], result["baselines"], result["protocol"], model, "--exclude-own"
        )


def _eval_options(command: EvaluateCommand) -> dict[str, Any]:
    """Options of the protocol; None is as in training."""
    if command.exclude_own and command.no_exclude_own:
        raise ConfigError("--exclude-own and --no-exclude-own are opposites: give one of them.")
    options = {name: getattr(command, name) for name in EVAL_OPTIONS}
    options["exclude_own"] = True if command.exclude_own else False if command.no_exclude_own else None
    return options


def _evaluate_snapshots(command: EvaluateCommand) -> None:
    for name, value in {"protocol": command.protocol, **_eval_options(command)}.items():
        if value is not None:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is for event streams, and this run is on snapshots: leave it out.")
    quiet = command.quiet or command.json
    result = evaluate_snapshots(command.run, command.split, command.device, quiet, command.data)
    if command.json:
        print(json.dumps(plain(result), indent=1, allow_nan=False))
    else:
        model = RunDirectory.read_config(command.run)["model"]
        print_snapshot_metrics(result["split"], model, result["metrics"], result["baselines"], result["protocol"])
