"""What a tracker is to a run, and the options of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import tyro


@dataclass
class LogConfig:
    """Where the numbers go beside the run directory. TensorBoard's curves are always written there."""

    to: Annotated[str, tyro.conf.arg(aliases=["--log"])] = ""
    """Trackers, with commas: mlflow, wandb."""
    project: str = "tgscale"
    """Project of W&B, experiment of MLflow."""
    name: str | None = None
    """Name of the logged run; the run directory's unless given."""
    tracking_uri: str | None = None
    """MLflow: where its server or folder is; as MLFLOW_TRACKING_URI says unless given."""
    offline: bool = False
    """W&B: write into the run directory alone, to be sent later by `wandb sync`."""


class Logger(Protocol):
    """A tracker of one run.

    Attributes:
        id: by which a resumed run finds its logged run again.
    """

    id: str

    def log(self, kind: str, values: dict[str, float], iteration: int | None) -> None:
        """Take finite numbers of an iteration; ``kind`` is what they are about, such as ``"epoch"``."""

    def finish(self, result: dict[str, Any]) -> None:
        """Take the final result: nested plain values."""

    def close(self, done: bool) -> None:
        """No more comes from this process; ``done`` says whether the run is over."""


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as one level, names joined by dots."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def final_numbers(result: dict[str, Any]) -> dict[str, float]:
    """The metrics of a result that a tracker compares runs by: ``test.mrr`` and so on."""
    parts: dict[str, Any] = {name: result[name] for name in ("val", "test") if name in result}
    numbers = {name: value for name, value in flat(parts).items() if isinstance(value, int | float)}
    return {name.replace("@", "_at_"): float(value) for name, value in numbers.items()}
