import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tgscale.data import value_summary
from tgscale.data.generate import generate_stream
from tgscale.data.ingest import import_events
from tgscale.data.store import open_stream, save_stream
from tgscale.data.stream import EventStream, Split
from tgscale.data.summary import render, summarize

DAY = 86_400


def small(**options) -> EventStream:
    """Six events on nodes 0..3 (4 is unused): 0-1 thrice, once tied with itself; 2-2 a self-loop; 3 late."""
    return EventStream.from_arrays(
        np.array([0, 1, 0, 2, 0, 3]), np.array([1, 0, 2, 2, 1, 0]), np.array([10, 10, 12, 12, 12, 30]),
        **({"num_nodes": 5} | options),
    )  # fmt: skip


def test_counts_by_hand():
    summary = summarize(small(label=np.array([0, 0, 2, 1, 0, 0])))
    expected = {
        "events": 6, "nodes": 5, "active_nodes": 4, "sources": 4, "destinations": 3, "bipartite": False,
        "self_loops": 1, "pairs": 4, "edge_dim": 0, "node_dim": 0, "name": "events",
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary["label"] == {"distinct": 3, "nonzero_share": pytest.approx(2 / 6)}
    assert summary["ties"] == {"distinct_times": 3, "shared_share": pytest.approx(5 / 6), "largest": 3}
    assert summary["degree"]["max"] == 5
    assert summary["degree"]["mean"] == pytest.approx(11 / 4)
    assert summary["degree"]["median"] == 2.5  # degrees 5, 3, 2, 1
    assert summary["degree"]["gini"] == pytest.approx(13 / 44)


def test_features_by_hand(monkeypatch):
    features = np.array([[1, 0], [3, np.nan], [np.inf, 0], [-1, 0], [0, 0], [9, 9]], np.float32)
    stream = replace(small(), edge_features=features)
    monkeypatch.setattr(value_summary, "FEATURE_EVENTS", 5)
    monkeypatch.setattr(value_summary, "CHUNK_VALUES", 4)  # two rows at a time
    assert summarize(stream)["features"] == {
        "events": 5,
        "of": 6,
        "each": [
            {"name": "f0", "min": -1, "mean": 0.75, "max": 3, "zeros": 1, "not_finite": 1},
            {"name": "f1", "min": 0, "mean": 0, "max": 0, "zeros": 4, "not_finite": 1},
        ],
    }
    assert "(of the first 5 events)" in drawn(stream)
    assert summarize(small())["features"] is None


def test_a_feature_without_a_finite_value():
    stream = replace(small(), edge_features=np.full((6, 1), np.nan, np.float32))
    assert summarize(stream)["features"]["each"][0]["mean"] is None
    assert "not finite" in drawn(stream)


def test_of_many_features_those_with_extreme_values_are_drawn():
    features = np.zeros((6, 40), np.float32)
    features[0, 33] = -1e9
    text = drawn(small(edge_features=features))
    assert "the 20 of 40 with the largest values" in text
    assert "-1e+09" in text
    assert text.index("f33") < text.index("f0")


def test_features_have_the_names_of_the_source(tmp_path):
    (tmp_path / "e.csv").write_text("src,dst,time,amount,fee\n0,1,2,0.5,1\n1,0,3,2,0\n")
    import_events(tmp_path / "e.csv", tmp_path / "a", edge_features="amount,fee")
    each = summarize(open_stream(tmp_path / "a"))["features"]["each"]
    assert [one["name"] for one in each] == ["amount", "fee"]


def test_classes_with_names_are_counted():
    classes = {"label": ("fees", "rent"), "edge_classes": ("a", "b"), "node_label": ("x", "y")}
    marks = np.array([[1, 1], [0, 1], [0, 0], [0, 1], [0, 0], [0, 0]], np.uint8)
    stream = small(label=np.array([0, 1, 1, 1, 1, 1]), edge_classes=marks, node_label=np.array([0, -1, 0, 1, -1]))
    stream = replace(stream, classes=classes)
    expected = {"label": {"fees": 1, "rent": 5}, "edge_classes": {"a": 1, "b": 3}, "node_label": {"x": 2, "y": 1}}
    assert summarize(stream)["class_counts"] == expected
    assert "rent 5, fees 1" in drawn(stream)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_duplicates_equal_brute_force(rows):
    stream = EventStream.from_arrays(*np.array(rows).T)
    assert summarize(stream, Split(0, 0, len(rows)))["duplicates"] == len(rows) - len(set(rows))


def test_what_looks_odd_is_noted():
    def notes(time, unit="s"):
        ends = np.arange(len(time)) % 2
        return summarize(replace(EventStream.from_arrays(ends, 1 - ends, np.array(time)), time_unit=unit))["notes"]

    assert notes([1_600_000_000, 1_600_000_009]) == []
    assert "far in the future" in notes([1_600_000_000_000, 1_600_000_000_009])[0]
    dates = notes([20240131, 20240301])[0]
    assert "20240131 to 20240301 look like dates that are written as YYYYMMDD" in dates
    assert "strptime(TIME::VARCHAR, '%Y%m%d')" in dates
    assert "written as YYYYMMDDHHMMSS" in notes([20240131235959, 20240301000000])[0]
    assert notes([20240132, 20240301]) == notes([20240101, 20250001]) == []
    assert "span 97403 days, 0:00:00: that is more than a century" in notes([0, 97403 * DAY])[0]
    assert "--source-time-unit ms" in notes([0, 97403 * DAY])[0]
    assert notes([0, 97403 * DAY], "ms") == notes([0, 97403 * DAY], "step") == []
    assert "100.0 % of the events share their time" in notes([5, 5, 6, 6])[0]
    assert "note: 100.0 % of" in drawn(EventStream.from_arrays(np.array([0, 1]), np.array([1, 0]), np.array([5, 5])))


@pytest.mark.parametrize("start", [0, 1_600_000_000_000_000_000])
def test_the_parts_are_not_cut_in_a_terminal(start):
    time = start + np.arange(100) * 10**15
    stream = replace(EventStream.from_arrays(np.zeros(100, int), np.ones(100, int), time), time_unit="ns")
    text = drawn(stream, 80)
    assert "…" not in text
    assert ("2020-09-13 12:26" in text) == (start > 0)


def drawn(stream, width=140):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(summarize(stream)))
    return " ".join(console.export_text().split())


def test_bursts_by_hand():
    # Node 0 has gaps 0, 2, 0, 18; node 1 has 0, 2; the others have no two gaps.
    variation = np.array([np.std(gaps) / np.mean(gaps) for gaps in ([0, 2, 0, 18], [0, 2])])
    bursts = summarize(small())["bursts"]
    assert bursts["nodes"] == 2
    assert bursts["cv_mean"] == pytest.approx(variation.mean())
    assert bursts["burstiness_mean"] == pytest.approx(((variation - 1) / (variation + 1)).mean())
    assert bursts["burstiness_median"] == pytest.approx(np.median((variation - 1) / (variation + 1)))


def test_bursts_of_known_processes():
    def burstiness(gaps):
        ends = np.zeros(len(gaps), int)
        return summarize(EventStream.from_arrays(ends, ends + 1, np.cumsum(gaps)))["bursts"]["burstiness_mean"]

    rng = np.random.default_rng(0)
    assert burstiness(np.full(1000, 7)) == pytest.approx(-1)
    assert burstiness(rng.exponential(1e6, 20_000).astype(int)) == pytest.approx(0, abs=0.03)
    assert burstiness((rng.pareto(1.2, 20_000) * 1e6).astype(int)) > 0.4


def test_parts_by_hand():
    train, val, test = summarize(small(), Split(train=2, val=5, test=6))["split"]
    assert (train["events"], train["new_nodes"], train["new_node_share"]) == (2, 0, 0.0)
    assert train["repeat_share"] == 0  # the second 0-1 is at the time of the first: not before it
    assert (val["first_time"], val["last_time"], val["new_nodes"]) == (12, 12, 1)
    assert val["new_node_share"] == pytest.approx(2 / 3)
    assert val["repeat_share"] == pytest.approx(1 / 3)
    assert (test["new_nodes"], test["new_node_share"], test["repeat_share"]) == (1, 1.0, 0.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=40))
def test_repeats_equal_brute_force(rows):
    stream = EventStream.from_arrays(*np.array(rows).T)
    events = list(zip(stream.src.tolist(), stream.dst.tolist(), stream.time.tolist(), strict=True))
    met = [any({u, v} == {a, b} and s < t for a, b, s in events) for u, v, t in events]
    summary = summarize(stream, Split(0, 0, len(rows)))
    assert summary["split"][2]["repeat_share"] == pytest.approx(np.mean(met))
    assert summary["pairs"] == len({frozenset((u, v)) for u, v, _ in events})


def test_empty_part_and_single_event():
    stream = EventStream.from_arrays(np.array([0]), np.array([1]), np.array([5]))
    summary = summarize(stream)
    assert [part["events"] for part in summary["split"]] == [0, 0, 1]
    assert summary["split"][0]["repeat_share"] is None
    assert summary["bursts"] == {
        "nodes": 0, "cv_mean": None, "cv_median": None, "burstiness_mean": None, "burstiness_median": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("start", "span", "unit", "text", "first_date"),
    [
        (0, 3 * DAY + 61, "s", "3 days, 0:01:01", None),
        (1_600_000_000, 59, "s", "0:00:59", "2020-09-13 12:26:40"),
        (1_600_000_000_000, 2_000, "ms", "0:00:02", "2020-09-13 12:26:40"),
        (0, 12_345, "step", "12,345 step", None),
        (2_000_000_000, 12, "step", "12 step", None),
        (0, 2**62, "s", f"{2**62:,} s", None),
        (2**61, 5, "s", "0:00:05", None),
    ],
)
def test_time_in_words(start, span, unit, text, first_date):
    stream = EventStream.from_arrays(np.array([0, 1]), np.array([1, 0]), np.array([start, start + span]))
    time = summarize(replace(stream, time_unit=unit))["time"]
    assert (time["first"], time["last"], time["span"]) == (start, start + span, span)
    assert (time["span_text"], time["first_date"]) == (text, first_date)


def test_sizes_in_memory_and_on_disk(tmp_path):
    stream = generate_stream(events=500, nodes=100)
    in_memory = summarize(stream)["storage"]
    assert not in_memory["on_disk"]
    assert in_memory["bytes"]["src"] == 500 * 4
    assert in_memory["bytes"]["edge_features"] == 500 * 16 * 4
    save_stream(stream, tmp_path / "store")
    stored = summarize(open_stream(tmp_path / "store"))
    assert stored["storage"]["on_disk"]
    assert stored["storage"]["bytes"]["time"] == (tmp_path / "store" / "time.npy").stat().st_size
    assert set(stored["storage"]["bytes"]) == set(in_memory["bytes"])
    assert {**stored, "storage": None} == {**summarize(stream), "storage": None}


@pytest.mark.parametrize("stream", [generate_stream(events=300, nodes=50, communities=5), small()])
def test_is_plain_and_renders(stream):
    summary = summarize(stream)
    assert json.loads(json.dumps(summary)) == summary
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(render(summary))
    text = console.export_text()
    assert f"{stream.num_events:,}" in text
    assert all(word in text for word in ("burstiness", "repeated pairs", "tcsr_neighbor", "train", "total"))
