"""`tgscale plan`: what i, j and k should be, and why."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.table import Table
from rich.text import Text

from tgscale.cli.console import Output
from tgscale.cli.train import read_config
from tgscale.data.files import write_atomically
from tgscale.data.store import open_stream
from tgscale.errors import ConfigError
from tgscale.report.plan_figure import draw_plan
from tgscale.stream.choice import MEMORY_SHARE, amount, percent
from tgscale.stream.planner import MAX_MISSING, MAX_MISSING_BUSY, Plan, Request, parse_memory, plan
from tgscale.stream.throughput import load_or_measure
from tgscale.train.config_io import parse, read_yaml
from tgscale.train.environment import find_device, set_threads


@dataclass
class PlanCommand:
    """Choose a layout i x j x k for some machines, from the data and the speed of a device."""

    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Data directory."""
    machines: int = 1
    """How many machines, all alike."""
    gpus_per_machine: int | None = None
    """Trainers per machine: GPUs, or CPU trainers. As many as this machine has GPUs, or 1, unless given."""
    max_missing: float = MAX_MISSING
    """Share of the events that the node memory may miss, in [0, 1]."""
    max_missing_busy: float = MAX_MISSING_BUSY
    """The same for the busiest 1 % of the nodes."""
    device_profile: Path | None = None
    """Throughput of the device that will train: read if the file is there, else measured here and written to it."""
    memory_per_machine: str | None = None
    """Main memory of a machine, such as 64GB; that of the measured machine unless given."""
    device: str = "auto"
    """Device to measure: auto, cpu, cuda or cuda:N."""
    config: Path | None = None
    """YAML file of the run to plan for; its options go into the plan, with another layout and batch size."""
    preset: Literal["default", "disttgl"] | None = None
    """Preset of the run to plan for; that of the file, or default, unless given."""
    out: Path | None = None
    """YAML file to write, for `tgscale train`; its curves are drawn beside it, as .svg and .png."""
    overwrite: bool = False
    """Replace files that are there already."""
    json: bool = False
    """Print JSON instead of a table."""


def main(argv: list[str]) -> None:
    """Plan as the command line says; print, write and draw it."""
    command = parse(PlanCommand, argv, prog="tgscale plan")
    request = _request(command)
    options = {} if command.config is None else read_yaml(command.config)
    if command.preset:
        options = {**options, "preset": command.preset}
    files = [] if command.config is None else [str(command.config)]
    config = read_config(
        command.preset, [*files, f"--data={command.data}", "--run=planned", f"--device={command.device}"]
    )
    if command.out:
        _check_out(command.out, command.overwrite)
    stream = open_stream(command.data)
    set_threads(config.threads)
    profile = load_or_measure(command.device_profile, config, stream, lambda: find_device(config.device), _show)
    planned = plan(stream, config, request, profile, options)
    if command.out:
        write_atomically(command.out, planned.to_yaml())
        draw_plan(planned, *_drawings(command.out))
    if command.json:
        print(json.dumps(planned.to_dict(), indent=1))
    else:
        print_plan(planned, command.data, command.out)


def print_plan(planned: Plan, data: Path, out: Path | None) -> None:
    """The candidates as a table, then the choice, what decided it, and what to type next."""
    console = Output(highlight=False)
    console.print(_table(planned))
    choice, profile = planned.choice, planned.profile
    lines = Table.grid(padding=(0, 2))
    lines.add_row(Text("layout", "bold"), Text.assemble((str(choice.layout), "bold"), "  (i x j x k)"))
    for axis, size in planned.axes().items():
        lines.add_row(f"{axis} = {size}", planned.reasons[axis])
    lines.add_row(
        "batches",
        f"{choice.batch_size:,} events per trainer, {choice.global_batch:,} per memory copy (the global batch), "
        f"{choice.events_per_iteration:,} per update of the weights (the effective batch); about {planned.updates:,} "
        f"update{'s' if planned.updates > 1 else ''} in {planned.epochs} epochs",
    )
    lines.add_row("memory", _memory_line(planned))
    lines.add_row("device", f"{profile.name}, at best {max(profile.rates.values()):,.0f} events/s")
    for note in choice.notes:
        lines.add_row("note", note)
    console.print(lines)
    if out:
        drawings = " and ".join(map(str, _drawings(out)))
        console.print(f"\n{out} holds the layout, {drawings} the curves. Next:", soft_wrap=True)
        print(f"  {next_step(planned, data, out)}")
    else:
        console.print("\nTo train with it, write it to a file: --out plan.yaml")


def next_step(planned: Plan, data: Path, out: Path) -> str:
    """The command that trains with the plan; on several machines, the one to type on each."""
    choice = planned.choice
    train = f"train {shlex.quote(str(out))} --data {shlex.quote(str(data))}"
    if choice.machines > 1:
        return (
            f"torchrun --nnodes {choice.machines} --nproc-per-node {choice.trainers_per_machine} "
            "--rdzv-backend c10d --rdzv-endpoint FIRST_MACHINE:29500 "
            f"-m tgscale {train} --run-dir runs/{out.stem}"
        )
    workers = f" --workers {choice.layout.world}" if choice.layout.world > 1 else ""
    return f"tgscale {train} --run runs/{out.stem}{workers}"


def _table(planned: Plan) -> Table:
    request, busy = planned.request, planned.captured.busy_nodes
    table = Table(
        title=f"{planned.name}: events that the memory misses, of {planned.training_events:,} to train on",
        title_justify="left",
        caption=f"busiest: {busy:,} node{'s' if busy > 1 else ''}. Limits: {percent(request.max_missing)} of all, "
        f"{percent(request.max_missing_busy)} of the busiest; a size above one is dim.",
        caption_justify="left",
    )
    for name in ("batch", "missing", "busiest 1 %", "events/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in planned.rows():
        rate = row["events_per_second"]
        table.add_row(
            f"{row['batch_size']:,}",
            f"{100 * row['missing']:.1f} %",
            f"{100 * row['missing_busy']:.1f} %",
            "" if rate is None else f"{rate:,.0f}",
            row["note"],
            style="" if row["allowed"] else "dim",
        )
    return table


def _memory_line(planned: Plan) -> str:
    choice = planned.choice
    copies = "1 copy" if choice.copies_per_machine == 1 else f"{choice.copies_per_machine} copies"
    held = f"{copies} per machine to train on, {amount(planned.bytes_per_copy)} each"
    if planned.on_gpu:
        return f"{held}, on the GPUs ({amount(planned.profile.device_memory_bytes or 0)})"
    memory, whose = planned.request.memory_of(planned.profile)
    return f"{held}; {percent(MEMORY_SHARE)} of a machine's {amount(memory)} ({whose}) may be used"


def _request(command: PlanCommand) -> Request:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and command.device != "cpu" else 0
    return Request(
        machines=command.machines,
        trainers_per_machine=(gpus or 1) if command.gpus_per_machine is None else command.gpus_per_machine,
        max_missing=command.max_missing,
        max_missing_busy=command.max_missing_busy,
        memory_bytes=None if command.memory_per_machine is None else parse_memory(command.memory_per_machine),
    )


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out} is no YAML file: give a name such as plan.yaml.")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out} cannot be written: {out.parent} is not a directory.")
    there = [str(file) for file in (out, *_drawings(out)) if file.exists()]
    if there and not overwrite:
        raise ConfigError(f"{' and '.join(there)} would be replaced: give another --out, or --overwrite.")


def _drawings(out: Path) -> tuple[Path, Path]:
    return out.with_suffix(".svg"), out.with_suffix(".png")


def _show(step: str) -> None:
    print(f"{step} ...", file=sys.stderr)
