"""What a protocol fixes, beside the split and the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Draw = Literal["random", "historical", "inductive"]


@dataclass(frozen=True)
class EvalProtocol:
    """How events are scored: against what, with which rule for ties, and averaged over what.

    Attributes:
        name: in options and results.
        what: one line for people.
        negatives: per event, unless the run says otherwise.
        draw: kind of negatives, unless the run says otherwise.
        population: that the protocol prescribes; None: as the run says, all destinations by default.
        whole_edges: historical and inductive negatives are whole edges with sources of their own (DyGLib), not other
            destinations of the event's source (TGB).
        known_share: of the negatives that destinations known to the source may take, where they are not whole edges.
        ties: a negative with the score of the true destination counts half, or (legacy) not at all.
        average: AP and AUC are over all events of the part, or the mean over those of its batches, of scores after a
            sigmoid in fp32.
        aligned: batches begin at multiples of the batch size from the start of the stream, so that the first of a part
            may be short; otherwise at the start of the part.
        hits: also the share of events whose rank is at most this.
        from_files: negatives may come from the files of :mod:`tgscale.stream.protocol.file_negatives`.
    """

    name: str
    what: str
    negatives: int
    draw: Draw = "random"
    population: Literal["destinations", "all", "range"] | None = None
    whole_edges: bool = False
    known_share: float = 1.0
    ties: Literal["half", "optimistic"] = "half"
    average: Literal["events", "batches"] = "events"
    aligned: bool = False
    hits: int | None = None
    from_files: bool = False

    def spans(self, first: int, last: int, size: int) -> list[tuple[int, int]]:
        """The batches of the events ``[first, last)``."""
        cut = first - first % size if self.aligned else first
        return [(max(start, first), min(start + size, last)) for start in range(cut, last, size)]
