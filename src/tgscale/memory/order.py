"""The one legal order of the writes to a memory copy. Plain Python, for the emulator and the daemon alike.

At each position all reads come before all writes, and the writes are those of up to i trainers, in mini-batch order, so
that of two that write the same node the one with the later events wins (DistTGL, section 3.3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Position(Generic[T]):
    writers: int
    reset: bool
    writes: dict[int, T] = field(default_factory=dict)


class WriteOrder(Generic[T]):
    """Collects the writes of each position until they are complete.

    Attributes:
        next: the first position whose writes are not applied; its reads can be served.
    """

    def __init__(self, position: int = 0) -> None:
        self.next = position
        self._waiting: dict[int, _Position[T]] = {}

    def add(self, position: int, member: int, write: T, writers: int, reset: bool) -> None:
        """Take in what one member writes at a position.

        Raises:
            RuntimeError: the position is over, the member has written already, or the members do not agree.
        """
        if position < self.next:
            raise RuntimeError(
                f"member {member} writes at position {position}, which is over: {self.next} is the next."
            )
        expected = self._waiting.setdefault(position, _Position(writers, reset))
        if (writers, reset) != (expected.writers, expected.reset):
            raise RuntimeError(
                f"member {member} says of position {position}: {writers} writers, reset {reset}; another member says: "
                f"{expected.writers} writers, reset {expected.reset}."
            )
        if member in expected.writes or len(expected.writes) == writers:
            raise RuntimeError(f"member {member} writes twice, or as one too many, at position {position}.")
        expected.writes[member] = write

    def take(self) -> tuple[bool, list[T]] | None:
        """The writes of the next position, once all have come, by member; after that, the position is over.

        Returns:
            Whether to clear the memory first, and the writes; None while one is missing.
        """
        position = self._waiting.get(self.next)
        if position is None or len(position.writes) < position.writers:
            return None
        del self._waiting[self.next]
        self.next += 1
        return position.reset, [position.writes[member] for member in sorted(position.writes)]

    def restart(self, position: int) -> None:
        """Go on at ``position``.

        Raises:
            RuntimeError: writes are waiting for others.
        """
        if self._waiting:
            raise RuntimeError(f"a state is loaded while position {min(self._waiting)} is being written.")
        self.next = position
