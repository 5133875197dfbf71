"""How wide the state of a node is: its memory, and the mail that waits for it.

Models differ in it: TGN keeps one mail of two memories, APAN a mailbox of several, some models nothing at all. Imported
by the memory daemon, so it needs no torch.
"""

from __future__ import annotations

from typing import NamedTuple


class RowShape(NamedTuple):
    """Widths of a node's state.

    Attributes:
        dim: D, of the memory.
        mail: W, of one mail.
        mails: M, how many mails are kept; the state holds M W values of mail and the event ids of M mails.
    """

    dim: int
    mail: int
    mails: int = 1

    def bytes(self, itemsize: int = 4) -> int:
        """Bytes of one node's state: values of ``itemsize`` bytes, and int64 for the time and each mail's event."""
        return (self.dim + self.mails * self.mail) * itemsize + 8 * (1 + self.mails)

    def columns(self, rows: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Shapes of memory, memory time, mail and mail events of some rows; the events of one mail are ``[rows]``."""
        events = (rows,) if self.mails == 1 else (rows, self.mails)
        return (rows, self.dim), (rows,), (rows, self.mails * self.mail), events


def row_shape(dim: int | RowShape) -> RowShape:
    """A shape as it is; a width D as TGN's: one mail, of two memories."""
    return dim if isinstance(dim, RowShape) else RowShape(dim, 2 * dim)
