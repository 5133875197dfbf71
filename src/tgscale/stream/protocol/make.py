"""From the options of a run to the negatives of one part."""

from __future__ import annotations

import torch

from tgscale.data.stream import EventStream, Split
from tgscale.stream.config import EvalConfig
from tgscale.stream.negatives import NegativeSampler
from tgscale.stream.protocol.edge_negatives import EdgeNegatives
from tgscale.stream.protocol.file_negatives import FileNegatives
from tgscale.stream.protocol.first_meetings import FirstMeetings
from tgscale.stream.protocol.negatives import Negatives, RandomNegatives
from tgscale.stream.protocol.source_negatives import SourceNegatives


def make_negatives(
    config: EvalConfig, stream: EventStream, split: Split, part: str, device: torch.device | str
) -> Negatives:
    """The negatives of a part.

    Args:
        config: which ones.
        stream, split: the events and their parts.
        part: ``"val"`` or ``"test"``.
        device: where they are drawn.

    Raises:
        ConfigError, DataError: files that are not there or do not fit, a population of one node.
    """
    first, last = split.range(part)
    if config.negatives_from is not None:
        return FileNegatives(stream, config.negatives_from, part, first, last, device)
    if config.draw == "random":
        events = slice(first, last) if config.rule.population == "range" else slice(None)
        sampler = NegativeSampler(stream, config.drawn_from, device, events)
        return RandomNegatives(stream, sampler, config.num_negatives, config.seed, config.exclude_own)
    meetings = FirstMeetings(stream, device)
    if config.rule.whole_edges:
        return EdgeNegatives(stream, meetings, config.draw, first, config.seed, device)
    return SourceNegatives(
        stream,
        meetings,
        NegativeSampler(stream, config.drawn_from, device).nodes,
        config.drawn_from,
        config.draw,
        split.train,
        config.num_negatives,
        config.rule.known_share,
        config.seed,
    )
