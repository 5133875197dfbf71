"""What an executor is: whoever trains a device's groups of one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class GroupTime:
    """When a group was trained.

    Attributes:
        group: its number.
        worker: who trained it.
        seconds: how long that took.
        phases: (``"graph"``, ``"nn"`` or ``"backward"``, start, stop), seconds of a clock that all workers share.
    """

    group: int
    worker: int
    seconds: float
    phases: list[tuple[str, float, float]] = field(default_factory=list)


@dataclass
class StepOutcome:
    """What a step gave: the sum of the losses, and the times of its groups."""

    loss: float
    times: list[GroupTime]


class Executor(Protocol):
    """Trains groups of one step."""

    name: str

    def run(self, groups: Sequence[int], epoch: int, scale: float, gradient: Tensor) -> StepOutcome:
        """Add the gradient of ``scale * sum of the groups' losses`` to ``gradient``.

        Args:
            groups: their numbers, dearest first.
            epoch: for what is drawn at random.
            scale: of the losses.
            gradient: flat, in the order of ``engine.modules.parameters()``.
        """

    def close(self) -> None:
        """Let workers go."""
