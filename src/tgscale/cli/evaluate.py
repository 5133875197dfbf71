"""`tgscale evaluate`: score the best weights of a run again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tgscale.cli.table import print_metrics
from tgscale.stream.trainer import evaluate
from tgscale.train.config_io import parse


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
    result = evaluate(command.run, command.split, command.protocol, command.device, command.quiet or command.json)
    if command.json:
        print(json.dumps(result, indent=1))
    else:
        print_metrics(result["split"], result["metrics"], result["baselines"], result["protocol"])
