"""What the runs were asked to do: where they differ, and what they ran on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgscale.report.runs import Run
from tgscale.report.section import Section, Table

LEFT_OUT = ("run", "quiet", "keep_checkpoints", "checkpoint_every")


def options(runs: Sequence[Run]) -> Section:
    """A table of the options that differ, or of all of a run alone; and of the machines."""
    flat = [_flat(run.config) for run in runs]
    names = [name for name in dict.fromkeys(name for each in flat for name in each) if name not in LEFT_OUT]
    if len(runs) == 1:
        section = Section("options", "Options")
        rows = [[name, _word(flat[0][name])] for name in names]
        section.tables.append(Table(["option", "value"], rows, caption="All options of this run", words=True))
    else:
        section = Section("options", "Where the runs differ", "Options that are not the same in all runs.")
        different = [name for name in names if len({_word(each.get(name)) for each in flat}) > 1]
        rows = [[name, *(_word(each.get(name)) for each in flat)] for name in different]
        if rows:
            section.tables.append(Table(["option", *(run.name for run in runs)], rows, words=True))
        else:
            section.notes.append("The runs have equal options.")
    section.tables.append(_machines(runs))
    section.figures = {run.name: each for run, each in zip(runs, flat, strict=True)}
    return section


def _flat(config: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested options under dotted names, as on the command line."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{before}{name}."))
        else:
            found[before + str(name)] = value
    return found


def _word(value: Any) -> str:
    return "–" if value is None else str(value)  # noqa: RUF001


def _machines(runs: Sequence[Run]) -> Table:
    rows = []
    for run in runs:
        known = run.result.get("environment") or {}
        gpus = known.get("gpus") or []
        rows.append(
            [
                run.name,
                f"{known.get('cpu', '?')}, {known.get('cores', '?')} cores",
                ", ".join(str(gpu.get("name", gpu) if isinstance(gpu, dict) else gpu) for gpu in gpus) or "none",
                str(known.get("torch") or "–"),  # noqa: RUF001
                str(known.get("date") or "–").partition("+")[0].replace("T", " "),  # noqa: RUF001
            ]
        )
    return Table(["", "processor", "GPUs", "torch", "date"], rows, caption="Ran on", words=True)
