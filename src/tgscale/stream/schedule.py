"""The schedule of a layout: which trainer works on which batch at which iteration. Arithmetic only, no state.

Batches ``0 .. n-1`` are local batches in time order; ``i`` consecutive ones form a global batch. Each memory copy
moves through the stream by exactly one global batch per iteration, again and again; its *position* counts them, so at
iteration ``t`` it is at position ``t``. Copy ``m`` of ``k`` starts at its own ``1/k`` of the stream. The trainers of
epoch row ``e = t mod j`` take the global batch at position ``t``: they read, train on it and write; then they keep it
for the next ``j - 1`` iterations with other negatives, on the rows they have read (DistTGL, section 3.2).

The rows of the epoch axis are staggered by one iteration, so they wait at the start and at the end of the run. They do
not wait between two sweeps: what a trainer keeps, it needs no memory for, so the next row may begin the stream anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tgscale.stream.config import TrainConfig
from tgscale.stream.layout import Layout


@dataclass(frozen=True)
class Task:
    """What one trainer does at one iteration.

    Attributes:
        position: of the global batch that it works on; it was taken at the iteration of this number.
        batch: local batch.
        negative_set: 0 at the iteration that takes the batch, then up to j - 1.
        traversal: how manieth traversal of this batch by anyone it is; the seed of its negatives.
        reads: reads the memory (for all j negative sets at once). The first read of a sweep would be all zeros and is
            not issued.
        writes: writes the memory back.
        resets: the memory is empty when the batch begins.
    """

    position: int
    batch: int
    negative_set: int
    traversal: int
    reads: bool
    writes: bool
    resets: bool


@dataclass(frozen=True)
class Schedule:
    """Every iteration of a run.

    Args:
        layout: i x j x k.
        num_events: training events.
        batch_size: events per local batch; the last one may be shorter.
        epochs: the budget: the run ends once ``epochs * num_events`` events have been traversed by all trainers
            together, each counted as often as it is trained on.
        warm: whether copies that start inside the stream are filled beforehand, so that they are not empty there.
    """

    layout: Layout
    num_events: int
    batch_size: int
    epochs: int
    warm: bool = False

    @classmethod
    def of(cls, config: TrainConfig, num_events: int) -> Schedule:
        """The schedule of a run with ``num_events`` training events."""
        train = config.train
        return cls(config.run_layout, num_events, train.batch_size, train.epochs, warm=train.warm_start == "replay")

    @property
    def num_batches(self) -> int:
        """Local batches in a sweep."""
        return -(-self.num_events // self.batch_size)

    @property
    def num_global_batches(self) -> int:
        """Global batches in a sweep: iterations that a memory copy takes from one end of the stream to the other."""
        return -(-self.num_batches // self.layout.minibatch)

    @cached_property
    def positions(self) -> int:
        """Global batches that each memory copy moves through in the whole run."""
        G = self.num_global_batches
        budget = self.epochs * self.num_events
        per_sweep = self.layout.epoch * self.layout.memory * self.num_events
        sweeps, rest = divmod(budget, per_sweep)
        if not rest:
            return sweeps * G
        at = (np.arange(G)[:, None] + self._starts) % G
        traversed = self.layout.epoch * np.cumsum(self._global_sizes[at].sum(axis=1))
        return sweeps * G + int(np.searchsorted(traversed, rest)) + 1

    @property
    def iterations(self) -> int:
        """Steps of the optimiser in the whole run."""
        return self.positions + self.layout.epoch - 1

    @cached_property
    def _global_sizes(self) -> np.ndarray:
        size = self.batch_size * self.layout.minibatch
        sizes = np.full(self.num_global_batches, size)
        sizes[-1] = self.num_events - size * (self.num_global_batches - 1)
        return sizes

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.array([self.start(group) for group in range(self.layout.memory)])

    def start(self, group: int) -> int:
        """Global batch at which a memory copy starts."""
        return group * self.num_global_batches // self.layout.memory

    def global_batch(self, group: int, position: int) -> int:
        """Global batch at which a memory copy is at a position."""
        return (self.start(group) + position) % self.num_global_batches

    def resets(self, group: int, position: int) -> bool:
        """Whether a memory copy is emptied when it comes to a position."""
        return self.global_batch(group, position) == 0 or (position == 0 and not self.warm)

    def writers(self, group: int, position: int) -> int:
        """Trainers that share the global batch at a position: i, or fewer for the last of a sweep."""
        first = self.global_batch(group, position) * self.layout.minibatch
        return min(self.layout.minibatch, self.num_batches - first)

    def task(self, iteration: int, trainer: int) -> Task | None:
        """What a trainer does at an iteration; None when it has no batch: it then joins with zero weight."""
        b, e, group = self.layout.place(trainer)
        negative_set = (iteration - e) % self.layout.epoch
        position = iteration - negative_set
        if not 0 <= position < self.positions or b >= self.writers(group, position):
            return None
        sweep = (self.start(group) + position) // self.num_global_batches
        first, resets = negative_set == 0, self.resets(group, position)
        return Task(
            position=position,
            batch=self.global_batch(group, position) * self.layout.minibatch + b,
            negative_set=negative_set,
            traversal=(sweep * self.layout.memory + group) * self.layout.epoch + negative_set,
            reads=first and not resets,
            writes=first,
            resets=first and resets,
        )

    def range(self, batch: int) -> tuple[int, int]:
        """First event of a local batch, and the one after its last."""
        return batch * self.batch_size, min((batch + 1) * self.batch_size, self.num_events)

    def events(self, iteration: int) -> int:
        """Events that all trainers together work on at an iteration."""
        positions = np.arange(max(iteration - self.layout.epoch + 1, 0), min(iteration + 1, self.positions))
        return int(self._global_sizes[(self._starts[:, None] + positions) % self.num_global_batches].sum())

    def ends_sweep(self, iteration: int) -> bool:
        """Whether the model is to be validated after an iteration: copy 0 has come to the end, or the run is over.

        The last validation waits for the trainers that still keep a batch.
        """
        if iteration + 1 == self.iterations:
            return True
        return (iteration + 1) % self.num_global_batches == 0 and iteration + 1 < self.positions

    def table(self, iterations: int | None = None) -> str:
        """The schedule as text: a line per trainer, a column per iteration.

        ``3b`` is local batch 3 with the second negative set; ``R`` reads, ``W`` writes, ``0`` begins with empty memory,
        and ``.`` has no batch.
        """
        rows = []
        for trainer in range(self.layout.world):
            cells = []
            for iteration in range(self.iterations if iterations is None else iterations):
                task = self.task(iteration, trainer)
                cells.append("." if task is None else _cell(task))
            rows.append(cells)
        width = max(len(cell) for cells in rows for cell in cells)
        return "\n".join(" ".join(cell.ljust(width) for cell in cells).rstrip() for cells in rows)


def _cell(task: Task) -> str:
    name = f"{task.batch}{chr(ord('a') + task.negative_set)}"
    return name + "R" * task.reads + "0" * task.resets + "W" * task.writes
