"""Results as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from tgscale.cli.console import Output
from tgscale.stream.protocol import PROTOCOLS
from tgscale.train.metric_names import metric_name
from tgscale.train.verdict import few_new_nodes, verdict


def print_result(result: dict[str, Any], run: Path) -> None:
    """The result of a run beside the rules, and where everything lies."""
    data, train = result["data"], result["train"]
    print_metrics("test", result["test"], result["baselines"], result["protocol"], result["model"])
    if note := few_new_nodes(result):
        print(f"note: {note}.")
    _print_verdict(result)
    if train["profiled"]:
        print_time(train)
    console = Output(soft_wrap=True, highlight=False)
    console.print(
        f"{data['name']}: {data['events']:,} events, {data['nodes']:,} nodes. Layout {train['layout']}"
        f"{' (emulated)' if train['emulated'] else ''}, {train['iterations']:,} iterations. Best of "
        f"{train['epochs']:.3g} epochs: {train['best_epoch']:.3g} ({_best(result)}). Trained "
        f"{train['seconds']:.0f} s at {train['events_per_second']:,.0f} events/s, at most "
        f"{train['peak_memory_bytes'] / 2**20:,.0f} MiB per process."
    )
    _print_files(console, run, train["profiled"])


def print_snapshot_result(result: dict[str, Any], run: Path) -> None:
    """The result of a run on snapshots beside the rules, and where everything lies."""
    data, train = result["data"], result["train"]
    print_snapshot_metrics("test", result["model"], result["test"], result["baselines"], result["protocol"])
    _print_verdict(result)
    if train["profiled"]:
        print_time(train | {"processes": [train["processes"][0] | {"seconds": train["seconds"]}]})
    devices = f", {train['ranks']} devices, {train['partition']}" if train["ranks"] > 1 else ""
    console = Output(soft_wrap=True, highlight=False)
    console.print(
        f"{data['name']}: {data['snapshots']:,} snapshots of {data['nodes']:,} nodes, {data['edges']:,} edges; "
        f"{result['task']}{devices}. {train['groups']:,} groups, {train['iterations']:,} steps. Best of "
        f"{train['epochs']} epochs: {train['best_epoch']} ({_best(result)}). Trained {train['seconds']:.1f} s, at most "
        f"{train['peak_memory_bytes'] / 2**20:,.0f} MiB per process. Executor: {train['executor']}."
    )
    for note in train["notes"]:
        console.print(f"note: {note}")
    _print_files(console, run, train["profiled"])


def _best(result: dict[str, Any]) -> str:
    """The best validation, by the metric that validations are compared by."""
    metric = result.get("metric") or next(iter(result["val"]))
    return f"val {metric_name(metric)} {_number(result['val'][metric])}"


def _print_verdict(result: dict[str, Any]) -> None:
    if line := verdict(result):
        Output(soft_wrap=True, highlight=False).print(line)


def print_snapshot_metrics(
    split: str, model: str, metrics: dict[str, Any], baselines: dict[str, dict[str, Any]], protocol: dict[str, Any]
) -> None:
    """Metrics of a model of snapshots and of the rules on the same labels."""
    against = f", {protocol['negatives']} negatives" if "negatives" in protocol else ""
    table = Table(title=f"{split}: {protocol['name']}{against}", title_justify="left")
    table.add_column("")
    for name in metrics:
        table.add_column(metric_name(name), justify="right")
    for name, values in {model: metrics, **baselines}.items():
        table.add_row(name, *(_number(values.get(column)) for column in metrics), style="bold" if name == model else "")
    Output().print(table)


def _print_files(console: Output, run: Path, profiled: bool) -> None:
    for name, what in (
        ("result.json", "all figures"),
        ("config.yaml", "the resolved options"),
        ("metrics.jsonl", "one line per validation"),
        ("checkpoints", "weights, best and latest"),
        ("tensorboard", f"curves: tensorboard --logdir {run}"),
        ("timeline.json", "a timeline, for Perfetto or chrome://tracing"),
    )[: None if profiled else -1]:
        console.print(f"  {run / name}  {what}")


def print_time(train: dict[str, Any]) -> None:
    """Where the first process's time went, per iteration; the rows add up to the whole."""
    process = train["processes"][0]
    own = dict(sorted(process["own_time"].items(), key=lambda item: -item[1]))
    own["everything else"] = process["seconds"] - sum(own.values())
    table = Table(title="where the time of trainer 0 went", title_justify="left")
    for name in ("", "ms per iteration", "share of training"):
        table.add_column(name, justify="right" if name else "left")
    for name, spent in own.items():
        table.add_row(name, f"{1e3 * spent / process['iterations']:.3f}", f"{spent / process['seconds']:.1%}")
    table.add_section()
    table.add_row("the step", f"{1e3 * process['seconds'] / process['iterations']:.3f}", "100.0%")
    Output().print(table)


def print_metrics(
    split: str,
    metrics: dict[str, Any],
    baselines: dict[str, dict[str, Any]],
    protocol: dict[str, Any],
    model: str = "tgn",
    exclude_own: str = "--eval.exclude-own",
) -> None:
    """Metrics of the model and of the rules on the same negatives, or the same labels.

    ``exclude_own`` is what the command calls the option that a note may point to.
    """
    if "negatives" not in protocol:
        print_snapshot_metrics(split, model, metrics, baselines, protocol)
        return
    columns: list[str] = [name for name in ("mrr", "mrr_new_nodes", "hits@10", "ap", "auc") if name in metrics]
    table = Table(title=f"{split}: {_asked(protocol)}", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(metric_name(name), justify="right")
    for name, values in {model: metrics, **baselines}.items():
        table.add_row(name, *(_number(values.get(column)) for column in columns), style="bold" if name == model else "")
    Output().print(table)
    size = protocol["population_size"]
    if size is not None and not protocol["exclude_own"] and size < 10 * protocol["negatives"]:
        print(
            f"note: {protocol['negatives']} negatives from {protocol['population_size']} nodes often hit the true "
            f"destination, which counts as a tie and caps the MRR; {exclude_own} leaves it out."
        )


def _asked(protocol: dict[str, Any]) -> str:
    """What a link prediction was asked, in words."""
    name, count = protocol["name"], protocol["negatives"]
    draw = "" if protocol.get("draw", "random") == "random" else f" {protocol['draw']}"
    against = f"{count:,}{draw} negatives from {protocol['population']}"
    other = name.startswith("mrr49") and count != PROTOCOLS[name].negatives  # its name says how many, and was overruled
    return f"{name}, but with {against}" if other else f"{name}, {against}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
