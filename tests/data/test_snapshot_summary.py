"""The summary of snapshots, against numbers worked out by hand."""

import dataclasses
import io
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tgscale.data.snapshot_store import open_snapshots, save_snapshots
from tgscale.data.snapshot_summary import render_snapshots, summarize_snapshots
from tgscale.data.snapshots import SnapshotSequence

# Steps: {01, 12, 22}, {01, 20}, {}, {01}; node 3 has no edge.
SMALL = SnapshotSequence.from_arrays(
    [0, 0, 0, 1, 1, 3],
    [0, 1, 2, 0, 2, 0],
    [1, 2, 2, 1, 0, 1],
    num_nodes=4,
    edge_label=[5, 5, 6, 5, 5, 5],
    target=[[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [3, 3, 3, 3]],
    target_std=2,
    step_time=[0, 86_400, 172_800, 259_200],
    time_unit="s",
    name="small",
)


def test_by_hand():
    found = summarize_snapshots(SMALL)
    assert json.loads(json.dumps(found)) == found
    storage = found.pop("storage")
    assert found == {
        "name": "small",
        "steps": 4,
        "graphs": 4,
        "nodes": 4,
        "active_nodes": 3,
        "edges": 6,
        "undirected": False,
        "relations": 1,
        "weighted": False,
        "labels": 2,
        "self_loops": 1,
        "node_dim": 0,
        "static_features": False,
        "sizes": {"min": 0, "median": 1.5, "mean": 1.5, "max": 3, "max_over_mean": 2.0, "empty": 1},
        "density": 1.5 / 16,
        # 2 go and 1 comes of 2.5; 2 go of 1; 1 comes of 1 (the mean of 0 and 1 counts as 1)
        "change": {"mean": (3 / 2.5 + 2 + 1) / 3, "max": 2.0, "exchanged": pytest.approx(1 / 3)},
        "target": {
            "dim": 1,
            "steps": 4,
            "mean": 1.25,
            "std": pytest.approx(np.std([0, 1, 1, 3])),
            "scaled": True,
            "persistence_mse": pytest.approx(5 / 3),
        },
        "time": {
            "unit": "s",
            "first": 0,
            "last": 259_200,
            "span": 259_200,
            "span_text": "3 days, 0:00:00",
            "first_date": None,
            "last_date": None,
        },
    }
    assert storage["bytes"]["neighbor"] == 24
    assert not storage["on_disk"]


def test_one_static_step():
    sequence = SnapshotSequence.from_arrays([0], [0], [1], node_features=np.ones((2, 3)))
    found = summarize_snapshots(sequence)
    assert (found["change"], found["target"], found["time"], found["static_features"]) == (None, None, None, True)


def test_a_static_topology_does_not_change():
    sequence = SnapshotSequence.from_arrays([0], [0], [1], graph_of=np.zeros(9, int))
    assert summarize_snapshots(sequence)["change"] == {"mean": 0.0, "max": 0.0, "exchanged": 0.0}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4)), max_size=50))
def test_change_equals_that_of_sets(edges):
    step, src, dst = zip(*edges, strict=True) if edges else ((), (), ())
    sequence = SnapshotSequence.from_arrays(step, src, dst, num_steps=4, num_nodes=5)
    graphs = [{(u, v) for t, u, v in edges if t == step} for step in range(4)]
    changes = [len(a ^ b) / max((len(a) + len(b)) / 2, 1) for a, b in itertools.pairwise(graphs)]
    found = summarize_snapshots(sequence)
    assert found["change"]["mean"] == pytest.approx(np.mean(changes))
    assert found["change"]["max"] == pytest.approx(max(changes))
    assert found["self_loops"] == sum(u == v for graph in graphs for u, v in graph)


def test_tables(tmp_path):
    save_snapshots(SMALL, tmp_path / "small")
    summary = summarize_snapshots(open_snapshots(tmp_path / "small"))
    assert summary["storage"]["on_disk"]
    console = Console(record=True, width=120)
    console.print(render_snapshots(summary))
    printed = console.export_text()
    for text in ("Snapshot sequence small", "min 0, median 1.500, mean 1.500, max 3", "mean 140.0 %", "neighbor"):
        assert text in printed
    assert "scaled, the source's units are kept" in printed
    assert "has MSE 1.667" in printed


def test_steps_whose_target_is_not_known_yet():
    sequence = SnapshotSequence.from_arrays([0, 4], [0, 1], [1, 0], target=[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = summarize_snapshots(sequence)
    assert (found["steps"], found["target"]["steps"], found["target"]["persistence_mse"]) == (5, 3, 4.0)
    ahead = summarize_snapshots(dataclasses.replace(sequence, target_delay=2))
    assert ahead["target"]["persistence_mse"] == 16.0  # what is known when a target lies two steps ahead
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_snapshots(found))
    assert "of the last 2 steps not known yet" in console.export_text()


def test_no_target_is_known():
    sequence = SnapshotSequence.from_arrays([0, 4], [0, 1], [1, 0], target=np.zeros((0, 2)))
    found = summarize_snapshots(sequence)["target"]
    assert (found["steps"], found["mean"], found["persistence_mse"]) == (0, None, None)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_snapshots(summarize_snapshots(sequence)))
    assert "of the last 5 steps not known yet" in console.export_text()
