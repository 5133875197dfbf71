"""Small random streams with everything that goes wrong: ties, self-loops, repeated events, isolated nodes."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from tgscale.data.stream import EventStream

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@st.composite
def streams(draw: st.DrawFn, max_events: int = 60, max_nodes: int = 8) -> EventStream:
    """Few nodes and few distinct times, so that ties, repeats, self-loops and unused nodes are common."""
    return make_stream(
        nodes=draw(st.integers(1, max_nodes)),
        events=draw(st.integers(1, max_events)),
        latest=draw(st.sampled_from([0, 3, 40, 10**12])),
        unused=draw(st.integers(0, 2)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def make_stream(nodes: int, events: int, latest: int, unused: int = 0, seed: int = 0) -> EventStream:
    rng = np.random.default_rng(seed)
    src, dst, time = (rng.integers(0, high, events) for high in (nodes, nodes, latest + 1))
    return EventStream.from_arrays(src, dst, time, num_nodes=nodes + unused)


def random_queries(stream: EventStream, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and times: near the times of events and outside the stream, in no order."""
    rng = np.random.default_rng(seed)
    time = stream.time[rng.integers(0, stream.num_events, size)] + rng.integers(-2, 3, size)
    time[rng.random(size) < 0.1] = 0
    time[rng.random(size) < 0.1] = stream.time[-1] + 1000
    return torch.from_numpy(rng.integers(0, stream.num_nodes, size)), torch.from_numpy(time)
