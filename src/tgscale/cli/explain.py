"""`tgscale explain`: the operator plan of a model on some data."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from tgscale.cli.console import Output
from tgscale.data.snapshot_store import open_snapshots
from tgscale.errors import ConfigError
from tgscale.snapshot.build import make_model
from tgscale.snapshot.config import ModelName, NetConfig, PlanConfig, SnapshotConfig
from tgscale.snapshot.describe import BALANCE, Operator, Sizes, describe, distinct, summary
from tgscale.snapshot.order import GRAPH
from tgscale.snapshot.plan import Plan
from tgscale.snapshot.rewrite import Rewrites
from tgscale.snapshot.tensors import SnapshotData, width_of_features
from tgscale.train.config_io import parse


@dataclass
class ExplainCommand:
    """Print the operator plan of a model: what runs when, how much work it is, and what the rewrites save."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Data directory of a snapshot sequence."""
    model: ModelName = "tgcn"
    """Which model."""
    window: int = 8
    """Snapshots of a group."""
    balance: float = BALANCE
    """FLOP that the machine does in the time in which it moves a byte; below it an operator is bound by memory."""
    out: Path | None = None
    """Draw the plan into this file too: .svg, .png or .pdf; .dot for Graphviz."""
    json: bool = False
    """Print JSON instead of tables."""
    net: NetConfig = field(default_factory=NetConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)


def main(argv: list[str]) -> None:
    """Explain as the command line says."""
    command = parse(ExplainCommand, argv, prog="tgscale explain")
    if command.window < 1:
        raise ConfigError(f"--window is {command.window}: give 1 or more.")
    if command.out and command.out.suffix not in (".svg", ".png", ".pdf", ".dot"):
        raise ConfigError(f"--out {command.out}: give a name that ends in .svg, .png, .pdf or .dot.")
    if command.out and not command.out.absolute().parent.is_dir():
        raise ConfigError(f"--out {command.out} cannot be written: {command.out.parent} is not a directory.")
    sequence = open_snapshots(command.data)
    features = width_of_features(sequence, command.net.features)
    config = SnapshotConfig(command.data, Path(), model=command.model, window=command.window, net=command.net)
    model = make_model(config, sequence, features)
    plan = Plan(model, Rewrites(**vars(command.plan)))
    rows = {name: parameter.shape[-2] for name, parameter in model.named_parameters() if parameter.dim() > 1}
    sizes = Sizes(sequence.num_nodes, float(sequence.edge_counts().mean()), command.window, rows)
    operators, saved = describe(plan, sizes, command.balance), summary(plan, sizes)
    saved["distinct"] = distinct(plan, SnapshotData(sequence, features=command.net.features), command.window)
    if command.json:
        print(json.dumps({"operators": [asdict(each) for each in operators], **saved}, indent=1))
    else:
        title = f"{command.model} on {sequence.name}: {sequence.num_nodes:,} nodes, {sizes.edges:,.0f} edges a snapshot"
        _print(operators, saved, title, command.window)
    if command.out:
        from tgscale.report.operator_figure import draw_plan  # slow to import

        draw_plan(operators, command.out)
        print(f"drawn into {command.out}", file=sys.stderr)


def _print(operators: list[Operator], saved: dict[str, Any], title: str, window: int) -> None:
    console = Output(highlight=False, soft_wrap=True)
    table = Table(title=f"{title}, groups of {window}", title_justify="left")
    for name, side in (
        ("#", "right"),
        ("operator", "left"),
        ("class", "left"),
        ("depends on", "left"),
        ("runs", "left"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for name in ("MFLOP", "MB", "FLOP/byte"):
        table.add_column(name, justify="right")
    for each in operators:
        kind = each.kind if each.kind == GRAPH else f"{each.kind}, {each.bound}"
        amounts = (f"{each.flops / 1e6:,.2f}", f"{each.bytes / 1e6:,.2f}", f"{each.intensity:.1f}")
        table.add_row(str(each.number), each.what, kind, each.depends, RUNS[each.stage], *amounts)
    console.print(table)
    written, planned = saved["as written"], saved["planned"]
    for name, unit, scale in (
        ("calls", "operator calls", 1),
        ("graph calls", "graph operator calls", 1),
        ("graph bytes", "MB through graph operators", 1e6),
        ("dense flops", "MFLOP of dense products", 1e6),
    ):
        console.print(
            f"{unit} per group: {written[name] / scale:,.0f} as written, {planned[name] / scale:,.0f} planned"
        )
    if saved["kept_bytes_per_step"]:
        console.print(f"kept for the whole run: {saved['kept_bytes_per_step'] / 1e6:,.2f} MB per snapshot")
    shares = ", ".join(f"{share:.0%} {name}" for name, share in saved["two workers"].items())
    console.print(f"time of two workers in that of one, ahead of the recurrence, estimated: {shares}")
    if saved["distinct"]:
        parts = ", ".join(f"{share:.1%} of the {name}" for name, share in saved["distinct"].items())
        console.print(f"computed in the last group: {parts}; the others are equal to one of these")
    for note in saved["notes"]:
        console.print(f"  {note}")


RUNS = {
    "once": "once per run",
    "ahead": "all steps at once",
    "scan": "one call",
    "loop": "each step",
    "after": "all steps at once",
}
