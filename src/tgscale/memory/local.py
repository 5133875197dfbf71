"""Node memory and mail of one trainer, as plain tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tgscale.memory.shape import RowShape, row_shape


@dataclass
class MemoryRows:
    """State of some nodes.

    Attributes:
        memory: ``[U, D]``.
        memory_time: when the memory was last updated, ``[U]``, int64.
        mail: the last message received and not yet absorbed: own || other side's memory, ``[U, 2 D]``. A model may keep
            M mails of another width W, ``[U, M W]``; see :class:`tgscale.memory.shape.RowShape`.
        mail_event: the event that left it, ``[U]``, int64; -1 for none. Its time and features are looked up by this id.
            ``[U, M]`` where there are several mails.
    """

    memory: Tensor
    memory_time: Tensor
    mail: Tensor
    mail_event: Tensor


class LocalMemory:
    """One copy of the memory of ``num_nodes`` nodes.

    Args:
        num_nodes: N.
        dim: D, width of the memory; or the whole shape of a node's state.
        device, dtype: where and how it is kept.
    """

    def __init__(
        self,
        num_nodes: int,
        dim: int | RowShape,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = row_shape(dim)
        self.state = empty_rows(num_nodes, self.shape, device, dtype)

    def read(self, nodes: Tensor) -> MemoryRows:
        """Copies of the rows of ``nodes``, ``[U]``."""
        # Several times as fast as memory[nodes] on a CPU.
        return MemoryRows(*(column.index_select(0, nodes) for column in vars(self.state).values()))

    def write(self, nodes: Tensor, rows: MemoryRows) -> None:
        """Replace the rows of ``nodes``, ``[U]``, each of which occurs once, or always with equal rows."""
        s = self.state
        s.memory[nodes] = rows.memory
        s.memory_time[nodes] = rows.memory_time
        s.mail[nodes] = rows.mail
        s.mail_event[nodes] = rows.mail_event

    def reset(self) -> None:
        """Back to the state before the first event."""
        s = self.state
        s.memory.zero_()
        s.memory_time.zero_()
        s.mail.zero_()
        s.mail_event.fill_(-1)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all tensors, by name."""
        return {name: tensor.clone() for name, tensor in vars(self.state).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what :meth:`state_dict` gave."""
        for name, tensor in vars(self.state).items():
            tensor.copy_(state[name])


class NoMemory(LocalMemory):
    """The memory of a model that has none: rows of width 0, which nothing is written to and nothing is kept of."""

    def __init__(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        super().__init__(0, RowShape(0, 0), device, dtype)

    def read(self, nodes: Tensor) -> MemoryRows:
        return empty_rows(len(nodes), self.shape, self.state.memory.device, self.state.memory.dtype)

    def write(self, nodes: Tensor, rows: MemoryRows) -> None:
        raise RuntimeError("a model without memory writes nothing.")


def empty_rows(
    count: int, shape: RowShape, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> MemoryRows:
    """The state of so many nodes before the first event."""
    memory, time, mail, event = shape.columns(count)
    return MemoryRows(
        memory=torch.zeros(memory, dtype=dtype, device=device),
        memory_time=torch.zeros(time, dtype=torch.int64, device=device),
        mail=torch.zeros(mail, dtype=dtype, device=device),
        mail_event=torch.full(event, -1, dtype=torch.int64, device=device),
    )


def last_event_of_ends(
    count: int, source: Tensor, destination: Tensor, every_end: bool = False
) -> tuple[Tensor, Tensor]:
    """Which of ``count`` rows are ends of a batch's events, and the last event of each.

    Args:
        count: U.
        source, destination: rows of the two ends of each event, ``[B]``, int64.
        every_end: see :func:`rows_after_events`.

    Returns:
        Rows ``[W]``, and the place in the batch of the last event of each, ``[W]``.
    """
    position = torch.arange(len(source), device=source.device)
    last = torch.full((count,), -1, device=source.device)
    # amax, not plain assignment: which of several writes to one place wins is undefined on a GPU.
    last.scatter_reduce_(0, torch.cat([source, destination]), torch.cat([position, position]), "amax")
    own = torch.cat([source, destination]) if every_end else (last >= 0).nonzero().flatten()
    return own, last[own]


def rows_after_events(
    rows: MemoryRows,
    updated: Tensor,
    source: Tensor,
    destination: Tensor,
    event: Tensor,
    event_time: Tensor,
    every_end: bool = False,
) -> tuple[Tensor, MemoryRows]:
    """What a batch of events leaves behind at its sources and destinations (TGN algorithm 2).

    The updated memory is kept, and each node gets the mail of its last event in the batch, by event id; a self-loop
    mails a node its own memory twice.

    Args:
        rows: state that was read for the batch's distinct nodes, ``[U]``.
        updated: their memory after absorbing mail, ``[U, D]``.
        source, destination: rows of the two ends of each event, ``[B]``, int64.
        event: their ids, ascending, ``[B]``, int64.
        event_time: time of each event of the stream, ``[E]``.
        every_end: name a node once per end of an event, always with the same new state, so that W is 2 B: then nothing
            has to be counted, for which a GPU would have to be waited for.

    Returns:
        The rows (of ``rows``) of the nodes to write, ``[W]``, each once unless ``every_end``; and their new state.
    """
    updated = updated.detach()
    own, last = last_event_of_ends(len(updated), source, destination, every_end)
    other = torch.where(source[last] == own, destination[last], source[last])
    mail_event = rows.mail_event[own]
    return own, MemoryRows(
        memory=updated[own],
        memory_time=torch.where(mail_event >= 0, event_time[mail_event.clamp(min=0)], rows.memory_time[own]),
        mail=torch.cat([updated[own], updated[other]], dim=1),
        mail_event=event[last],
    )
