"""Snapshot groups: runs of consecutive steps that a model sees with a hidden state that starts fresh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tgscale.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Groups:
    """Which steps each group holds: ``first[g]`` and the ``window - 1`` after it. A group is known by its index.

    Attributes:
        first: int64 ``[G]``, first step of each group, rising.
        window: steps per group.
    """

    first: np.ndarray
    window: int

    def __len__(self) -> int:
        return len(self.first)

    def steps(self, group: int) -> range:
        """The steps of a group, in order."""
        first = int(self.first[group])
        return range(first, first + self.window)


def make_groups(first_step: int, last_step: int, window: int, stride: int = 1) -> Groups:
    """All windows that lie wholly within steps ``first_step .. last_step - 1``.

    Args:
        first_step: first step that a group may hold.
        last_step: the step after the last one that a group may hold.
        window: steps per group.
        stride: steps from the start of a group to that of the next; groups overlap where it is less than ``window``.

    Raises:
        ConfigError: a window or stride below 1, or fewer steps than a window holds.
    """
    for name, value in (("window", window), ("stride", stride)):
        if value < 1:
            raise ConfigError(f"{name} is {value}: give a number of steps, 1 or more.")
    if last_step - first_step < window:
        raise ConfigError(
            f"a group holds window = {window} steps, but there are only {max(0, last_step - first_step)} "
            f"(steps {first_step} to {last_step}, the last one not included): give a smaller window, or more steps."
        )
    return Groups(np.arange(first_step, last_step - window + 1, stride, dtype=np.int64), window)


def group_sizes(per_step: np.ndarray, groups: Groups) -> np.ndarray:
    """What the steps of each group add up to.

    Args:
        per_step: ``[T, ...]``, a size of each step, such as its number of edges.
        groups: of these steps.

    Returns:
        ``[G, ...]``, int64 for integers, else float64. By prefix sums, so the work does not grow with the window.
    """
    per_step = np.asarray(per_step)
    kind = np.int64 if np.issubdtype(per_step.dtype, np.integer) else np.float64
    total = np.zeros((len(per_step) + 1, *per_step.shape[1:]), dtype=kind)
    np.cumsum(per_step, axis=0, dtype=kind, out=total[1:])
    return total[groups.first + groups.window] - total[groups.first]
