"""Run directories as the report reads them: whatever is there, and in words what is not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from tgscale.errors import RunError
from tgscale.stream.per_event import TEST_SCORES
from tgscale.train.run_start import TIMELINE
from tgscale.train.rundir import METRICS, RESULT, RunDirectory

FIRST_METRICS = ("mrr", "f1_micro", "f1", "ndcg", "auc", "ap", "accuracy", "rmse", "mae")
"""Which metric a run is shown by, where its task does not say: the first of these that it has."""


@dataclass
class Run:
    """A run directory, read.

    Attributes:
        path: the directory.
        name: what the report calls it; no two runs of a report have the same.
        kind: ``"stream"`` or ``"snapshots"``.
        config: resolved options.
        lines: of ``metrics.jsonl``, those of validations.
        result: of ``result.json``; empty while the run goes on, or when it was cut short.
        scores: columns of ``test_scores.npz``; empty where it is not there.
        timeline: Chrome trace events of ``timeline.json``; empty where it is not there.
    """

    path: Path
    name: str
    kind: str
    config: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    timeline: list[dict[str, Any]] = field(default_factory=list)

    @property
    def compared(self) -> str:
        """What its test figures rest on: equal for runs that were asked the same of the same data."""
        protocol = dict(self.result.get("protocol", {}))
        for name in ("batch_size", "metric"):  # of one question asked in other batches, the answers compare
            protocol.pop(name, None)
        return json.dumps([self.data, self.result.get("task"), self.result.get("split"), protocol], sort_keys=True)

    @property
    def finished(self) -> bool:
        return bool(self.result)

    @property
    def data(self) -> str:
        """Name of the data."""
        return self.result.get("data", {}).get("name") or Path(str(self.config.get("data", "?"))).name

    @property
    def train(self) -> dict[str, Any]:
        """What the result says about training."""
        return self.result.get("train", {})

    @property
    def test(self) -> dict[str, float]:
        """Test metrics that are numbers."""
        return numbers(self.result.get("test", {}))

    @property
    def metric(self) -> str | None:
        """The metric that the run is shown by; None where it has none yet."""
        known = self.test or {n.removeprefix("val_"): 0.0 for line in self.lines for n in line if n.startswith("val_")}
        known = {name: value for name, value in known.items() if name not in ("seconds",)}
        named = self.result.get("metric") or self.result.get("protocol", {}).get("metric")
        if named in known:
            return str(named)
        return next((name for name in FIRST_METRICS if name in known), next(iter(known), None))

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.result.get("model") or _of_config(self.config) or "model")


def _of_config(config: dict[str, Any]) -> Any:
    model = config.get("model")
    return model.get("name") if isinstance(model, dict) else model


def numbers(values: Any) -> dict[str, float]:
    """Those of a dictionary's values that are finite numbers; none of what is no dictionary."""
    return (
        {name: float(value) for name, value in values.items() if _is_number(value)} if isinstance(values, dict) else {}
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Read run directories.

    Args:
        paths: of runs that have ended, were cut short or are still going.

    Raises:
        RunError: not a run directory, one that is given twice, or one with a damaged file.
    """
    paths = [Path(path) for path in paths]
    resolved = [path.resolve() for path in paths]
    for path, real in zip(paths, resolved, strict=True):
        if resolved.count(real) > 1:
            raise RunError(f"{path} was given twice: leave one out.")
    return [_read(path, name) for path, name in zip(paths, _names(resolved), strict=True)]


def _names(paths: list[Path]) -> list[str]:
    """The last folders of each path, as many as it takes to tell them apart."""
    for parts in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _read(path: Path, name: str) -> Run:
    config = RunDirectory.read_config(path)
    run = Run(path, name, RunDirectory.kind_of_config(config), config)
    if (path / METRICS).exists():
        run.lines = _read_lines(path / METRICS)
    if (path / RESULT).exists():
        run.result = _read_json(path / RESULT)
    if (path / TEST_SCORES).exists():
        try:
            with np.load(path / TEST_SCORES, allow_pickle=False) as file:
                run.scores = {column: file[column] for column in file.files}
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise RunError(f"{path / TEST_SCORES} cannot be read ({error}): delete it, or make it anew.") from None
    if (path / TIMELINE).exists():
        run.timeline = _read_json(path / TIMELINE).get("traceEvents", [])
    return run


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """Lines about validations; one that a crash has cut short is passed over."""
    lines = []
    for text in file.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("kind") == "epoch":
            lines.append(line)
    return lines


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}): delete it, or make it anew.") from None
    if not isinstance(found, dict):
        raise RunError(f"{file} is damaged: it holds no object.")
    return found
