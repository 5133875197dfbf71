"""The layout ``i x j x k``: how many trainers there are, and what each axis of them shares (DistTGL, section 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tgscale.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """``i x j x k`` trainers.

    Trainers are numbered so that a memory group is a run of consecutive ranks: memory is the slowest axis, then epoch,
    then mini-batch. ``torchrun`` numbers the ranks of a machine consecutively, so a group stays on a machine whenever
    ``i * j`` divides the trainers of a machine.

    Attributes:
        minibatch: i, trainers that share one global batch.
        epoch: j, trainers that each keep a global batch for j iterations, with j negative sets.
        memory: k, copies of the node memory, each walking through its own part of the stream.
    """

    minibatch: int = 1
    epoch: int = 1
    memory: int = 1

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 1:
                raise ConfigError(f"the {name} axis of a layout is {size}: give 1 or more, as in 2x1x4.")

    @classmethod
    def parse(cls, text: str) -> Layout:
        """The layout written as ``"2x1x4"``.

        Raises:
            ConfigError: not of that form.
        """
        found = re.fullmatch(r"(\d+)[xX](\d+)[xX](\d+)", text.strip())
        if not found:
            raise ConfigError(
                f"layout {text!r} is not of the form IxJxK: give trainers per mini-batch x epochs in flight x copies "
                "of the memory, such as 2x1x4, or auto."
            )
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.minibatch}x{self.epoch}x{self.memory}"

    @property
    def world(self) -> int:
        """Number of trainers."""
        return self.minibatch * self.epoch * self.memory

    @property
    def group_size(self) -> int:
        """Trainers that share one memory copy."""
        return self.minibatch * self.epoch

    def place(self, trainer: int) -> tuple[int, int, int]:
        """Coordinates of a trainer: (mini-batch, epoch, memory)."""
        group, member = divmod(trainer, self.group_size)
        return member % self.minibatch, member // self.minibatch, group
