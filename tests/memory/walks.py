"""Random walks of a group of trainers through positions, how a trainer goes on one, and what must come out."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from tgscale.memory.group import GroupMemory, Write
from tgscale.memory.local import MemoryRows

NODES, DIM = 6, 2
COLUMNS = ("memory", "memory_time", "mail", "mail_event")


@dataclass
class Position:
    """What happens at one position.

    Attributes:
        reset: the memory is cleared and nobody reads.
        reads: node ids that each writer reads.
        writes: node ids that each writer writes, at most as many writers as i.
    """

    reset: bool
    reads: list[list[int]]
    writes: list[list[int]]


@dataclass
class Walk:
    """A schedule of ``minibatch * epoch`` trainers.

    Attributes:
        ahead: whether rows are requested as soon as the ones before have been received, and not when they are needed.
    """

    minibatch: int
    epoch: int
    first: int
    positions: list[Position]
    ahead: bool
    double: bool

    @property
    def members(self) -> int:
        return self.minibatch * self.epoch

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.double else torch.float32

    def task(self, position: int, member: int) -> tuple[list[int], list[int]] | None:
        """Nodes that a member reads and writes at a position."""
        row, b = divmod(member, self.minibatch)
        at = self.positions[position - self.first]
        if position % self.epoch != row or b >= len(at.writes):
            return None
        return at.reads[b], at.writes[b]

    @classmethod
    def from_dict(cls, fields: dict) -> "Walk":
        """From what ``dataclasses.asdict`` gave."""
        return cls(**{**fields, "positions": [Position(**p) for p in fields["positions"]]})

    @property
    def range(self) -> range:
        return range(self.first, self.first + len(self.positions))


nodes = st.integers(0, NODES - 1)


@st.composite
def walks(draw, firsts=(0,), most_members=4) -> Walk:
    i, j = draw(st.sampled_from([(i, j) for i in (1, 2, 3, 4) for j in (1, 2, 3, 4) if i * j <= most_members]))
    positions = []
    for _ in range(draw(st.integers(1, 8))):
        writers = draw(st.integers(1, i))
        reads = [draw(st.lists(nodes, max_size=NODES, unique=True)) for _ in range(writers)]
        writes = [draw(st.lists(nodes, min_size=1, max_size=NODES, unique=True)) for _ in range(writers)]
        positions.append(Position(draw(st.booleans()) and draw(st.booleans()), reads, writes))
    return Walk(i, j, draw(st.sampled_from(firsts)), positions, draw(st.booleans()), draw(st.booleans()))


def start_rows() -> list:
    """A state to begin with that is not empty."""
    return [[[n + 1 / 3, n + 0.5], 10 + n, [n + 1 / 7, 1.0, 2.0, float(n)], n - 1] for n in range(NODES)]


def start_state(walk: Walk) -> dict[str, torch.Tensor]:
    """The same as :meth:`GroupMemory.load_state_dict` takes it."""
    return vars(to_rows(start_rows(), walk.dtype))


def new_row(position: int, member: int, node: int, seen: int) -> list:
    """The row that a member writes, depending on what it has read."""
    value = position * 1000 + member * 100 + node * 10 + seen % 7
    return [[value + 1 / 3, value + 0.5], value, [value + 0.125, 1 / (1 + value), 2.0, -value], value + 1]


def reference(walk: Walk) -> tuple[dict[tuple[int, int], list], list]:
    """Rows that each member reads at each position, and the rows at the end; in plain Python, one step at a time."""
    empty = [[0.0] * DIM, 0, [0.0] * 2 * DIM, -1]
    state = start_rows() if walk.first else [list(empty) for _ in range(NODES)]
    read = {}
    for position in walk.range:
        reset, written = walk.positions[position - walk.first].reset, []
        for member in range(walk.members):
            task = walk.task(position, member)
            if task:
                seen = 0
                if not reset:
                    read[position, member] = [state[n] for n in task[0]]
                    seen = sum(row[3] for row in read[position, member])
                written += [(n, new_row(position, member, n, seen)) for n in task[1]]
        if reset:
            state = [list(empty) for _ in range(NODES)]
        for node, row in written:
            state[node] = row
    return read, state


class Walker:
    """One trainer on its way.

    Attributes:
        read: position -> rows that it has read.
    """

    def __init__(self, memory: GroupMemory, walk: Walk, member: int) -> None:
        self.memory, self.walk, self.member = memory, walk, member
        self.read: dict[int, MemoryRows] = {}
        self._reading = [
            p
            for p in walk.range
            if walk.task(p, member) and not walk.positions[p - walk.first].reset  # never a request where it resets
        ]
        if walk.ahead:
            self._request_next()

    def receive(self, position: int) -> None:
        if position in self._reading:
            if not self.walk.ahead:
                self._request_next()
            rows = self.memory.receive()
            # As a real trainer does: what was read before must still be there, so nothing is copied before it must.
            self.read[position] = rows
            self._reading.remove(position)

    def commit(self, position: int) -> None:
        if self.walk.ahead and position in self.read:
            self._keep(position)
            self._request_next()
        task, at = self.walk.task(position, self.member), self.walk.positions[position - self.walk.first]
        write = None
        if task:
            self._keep(position)
            seen = int(self.read[position].mail_event.sum()) if position in self.read else 0
            rows = [new_row(position, self.member, n, seen) for n in task[1]]
            write = Write(torch.tensor(task[1]), to_rows(rows, self.walk.dtype))
        self.memory.commit(position, write, len(at.writes), at.reset)

    def _request_next(self) -> None:
        if self._reading:
            position = self._reading[0]
            task = self.walk.task(position, self.member)
            assert task
            self.memory.request(position, torch.tensor(task[0], dtype=torch.int64))

    def _keep(self, position: int) -> None:
        """Copy the rows before the last: they need not outlive the next request."""
        for old in [p for p in self.read if p < position]:
            self.read[old] = MemoryRows(*(column.clone() for column in vars(self.read[old]).values()))


def to_rows(rows: list, dtype: torch.dtype) -> MemoryRows:
    """Rows of plain numbers as tensors."""
    memory, memory_time, mail, mail_event = zip(*rows, strict=True) if rows else ((), (), (), ())
    return MemoryRows(
        torch.tensor(memory, dtype=dtype).reshape(len(rows), DIM),
        torch.tensor(memory_time, dtype=torch.int64),
        torch.tensor(mail, dtype=dtype).reshape(len(rows), 2 * DIM),
        torch.tensor(mail_event, dtype=torch.int64),
    )


def differences(walk: Walk, read: dict[tuple[int, int], MemoryRows], state: dict[str, torch.Tensor]) -> list[str]:
    """Where rows that were read, or the final state, are not those of the reference bit for bit."""
    expected, final = reference(walk)
    wrong = [] if read.keys() == expected.keys() else [f"read {sorted(read)}, expected {sorted(expected)}"]
    for key, rows in read.items():
        wrong += [f"{key} {name}" for name in _unequal(rows, to_rows(expected[key], walk.dtype))]
    return wrong + [f"state {name}" for name in _unequal(MemoryRows(**state), to_rows(final, walk.dtype))]


def _unequal(rows: MemoryRows, expected: MemoryRows) -> list[str]:
    wrong = []
    for name in COLUMNS:
        given, right = getattr(rows, name), getattr(expected, name)
        if given.dtype != right.dtype or not given.is_contiguous() or not torch.equal(given, right):
            wrong.append(f"{name}: {given.tolist()} {given.dtype} is not {right.tolist()}")
    return wrong
