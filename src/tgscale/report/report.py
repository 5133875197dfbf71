"""A report on one run or several, from their directories alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tgscale.data.files import write_atomically
from tgscale.report.page import render
from tgscale.report.runs import Run, read_runs
from tgscale.report.section import Section
from tgscale.report.sections import SECTIONS
from tgscale.train.rundir import plain


@dataclass
class Report:
    """Runs, and what is to be said of them."""

    runs: list[Run]
    sections: list[Section]

    def html(self) -> str:
        """The page."""
        return render(self.runs, self.sections)

    def figures(self) -> dict[str, Any]:
        """All figures as plain values."""
        runs = [
            {"name": run.name, "path": run.path, "kind": run.kind, "data": run.data, "model": run.model,
             "finished": run.finished, "metric": run.metric, "test": run.test}
            for run in self.runs
        ]  # fmt: skip
        notes = {section.name: section.notes for section in self.sections if section.notes}
        missing = {section.name: section.missing for section in self.sections if section.missing}
        return plain(
            {
                "runs": runs,
                **{s.name: s.figures for s in self.sections if s.figures},
                "notes": notes,
                "missing": missing,
            }
        )

    def save(self, file: Path) -> None:
        """Write the page, all at once."""
        write_atomically(file, self.html())

    def save_figures(self, folder: Path) -> list[Path]:
        """Write every drawing as .svg and .png into a folder, which is made; gives their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        return [file for section in self.sections for drawing in section.drawings for file in drawing.save(folder)]


def make_report(runs: Sequence[Path | str]) -> Report:
    """Read run directories and draw what they hold.

    Args:
        runs: of event streams, of snapshots, or of both; finished or not.

    Raises:
        RunError: not a run directory, one that is given twice, or one with a damaged file.
    """
    read = read_runs([Path(run) for run in runs])
    return Report(read, [section(read) for section in SECTIONS])
