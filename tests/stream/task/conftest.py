import dataclasses

import numpy as np
import pytest

from tgscale.data.store import save_stream
from tgscale.data.stream import EventStream

TASKS = {
    "edge": {"task__name": "edge-class", "task__labels": "label"},
    "marks": {"task__name": "edge-class", "task__labels": "edge_classes"},
    "state": {"task__name": "node-class", "task__labels": "label"},
    "node": {"task__name": "node-class", "task__labels": "node_label"},
}
"""The four kinds of task, as changes of a configuration."""


def with_labels(stream: EventStream, seed: int = 0, classes: int = 3) -> EventStream:
    """The stream with labels of every kind; an event often has the label that its source had before."""
    rng = np.random.default_rng(seed)
    E, N = stream.num_events, stream.num_nodes
    state = rng.integers(0, classes, N)
    label = np.zeros(E, np.int64)
    for e, u in enumerate(stream.src):
        if rng.random() < 0.3:
            state[u] = rng.integers(0, classes)
        label[e] = state[u]
    node_label = rng.integers(0, classes, N).astype(np.int32)
    node_label[rng.random(N) < 0.1] = -1
    marks = np.stack([label == 1, label > 0, rng.random(E) < 0.5], axis=1).astype(np.uint8)
    return dataclasses.replace(stream, label=label, edge_classes=marks, node_label=node_label)


@pytest.fixture
def labelled(make_stream):
    def make(seed=0, classes=3, **options):
        return with_labels(make_stream(seed=seed, **options), seed, classes)

    return make


@pytest.fixture(params=TASKS)
def kind(request):
    """Each kind of task."""
    return TASKS[request.param]


@pytest.fixture
def task_config(tmp_path, make_config, labelled, kind):
    save_stream(labelled(), tmp_path / "data")
    return make_config(
        data=tmp_path / "data", run=tmp_path / "run", static__cache=tmp_path / "cache", train__epochs=3, **kind
    )
