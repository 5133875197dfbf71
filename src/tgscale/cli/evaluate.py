"""`tgscale evaluate`: score the best weights of a run again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tgscale.cli.table import print_metrics, print_snapshot_metrics
from tgscale.errors import ConfigError
from tgscale.snapshot.trainer import evaluate_snapshots
from tgscale.stream.trainer import evaluate
from tgscale.train.config_io import parse
from tgscale.train.rundir import RunDirectory


@dataclass
class EvaluateCommand:
    """Evaluate the best weights of a run, beside the rules, on the same negatives."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    split: Literal["val", "test"] = "test"
    """Which part of the stream."""
    protocol: Literal["mrr49", "ap"] | None = None
    """mrr49: against 49 random destinations. ap: against one. As in training unless given."""
    device: str | None = None
    """As in training unless given."""
    json: bool = False
    """Print JSON instead of a table."""
    quiet: bool = False
    """Show no progress."""


def main(argv: list[str]) -> None:
    """Evaluate as the command line says and print the metrics."""
    command = parse(EvaluateCommand, argv, prog="tgscale evaluate")
    if "partition" in RunDirectory.read_config(command.run):
        _evaluate_snapshots(command)
        return
    result = evaluate(command.run, command.split, command.protocol, command.device, command.quiet or command.json)
    if command.json:
        print(json.dumps(result, indent=1))
    else:
        print_metrics(result["split"], result["metrics"], result["baselines"], result["protocol"])


def _evaluate_snapshots(command: EvaluateCommand) -> None:
    if command.protocol:
        raise ConfigError("--protocol is for event streams, and this run is on snapshots: leave it out.")
    quiet = command.quiet or command.json
    result = evaluate_snapshots(command.run, command.split, command.device, quiet)
    if command.json:
        print(json.dumps(result, indent=1))
    else:
        model = RunDirectory.read_config(command.run)["model"]
        print_snapshot_metrics(result["split"], model, result["metrics"], result["baselines"], result["protocol"])
