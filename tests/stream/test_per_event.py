import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.data.stream import EventStream
from tgscale.stream import per_event
from tgscale.stream.config import default_config, replace
from tgscale.stream.per_event import TEST_SCORES, degrees_before, save_test_scores
from tgscale.stream.scores import Scores
from tgscale.stream.trainer import train_stream


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40), st.data())
def test_degrees_are_those_of_a_plain_count(events, data):
    first = data.draw(st.integers(0, len(events)))
    last = data.draw(st.integers(first, len(events)))
    src = np.array([s for s, _ in events], np.int32)
    dst = np.array([d for _, d in events], np.int32)
    plain = [
        [sum(node in before for before in events[:event]) for node in events[event]] for event in range(first, last)
    ]
    assert degrees_before(src, dst, first, last, 6).tolist() == plain


def scores_of(ranks) -> Scores:
    rank = torch.tensor(ranks, dtype=torch.float64)
    return Scores(1 / rank, torch.zeros(len(rank)), torch.zeros(len(rank)))


@pytest.fixture
def stream() -> EventStream:
    return EventStream.from_arrays(src=np.array([0, 0, 1, 3]), dst=np.array([1, 1, 2, 3]), time=np.array([1, 2, 3, 4]))


def test_columns_of_the_file(stream, tmp_path):
    save_test_scores(
        tmp_path, stream, 1, np.array([0, 1, 1], bool), scores_of([1, 2.5, 49]), {"r": scores_of([3, 1, 2])}
    )
    with np.load(tmp_path / TEST_SCORES, allow_pickle=False) as file:
        columns = {name: file[name].tolist() for name in file.files}
    assert columns == {
        "event": [1, 2, 3],
        "rank": [1, 2.5, 49],
        "source_degree": [1, 2, 0],
        "destination_degree": [1, 0, 0],
        "new_node": [False, True, True],
        "rank_r": [3, 1, 2],
    }


def test_of_a_long_part_every_nth_event_is_kept(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(per_event, "MOST_EVENTS", 2)
    save_test_scores(tmp_path, stream, 1, np.zeros(3, bool), scores_of([1, 2, 3]), {})
    with np.load(tmp_path / TEST_SCORES) as file:
        assert file["event"].tolist() == [1, 3]
        assert file["rank"].tolist() == [1, 3]


def test_a_run_writes_ranks_that_make_its_result(tmp_path):
    save_stream(generate_stream(events=2000, nodes=200, edge_features=2), tmp_path / "data")
    config = default_config(tmp_path / "data", tmp_path / "run")
    result = train_stream(
        replace(config, quiet=True, device="cpu", model__dim=8, train__epochs=1, train__batch_size=200)
    )
    with np.load(tmp_path / "run" / TEST_SCORES) as file:
        columns = {name: file[name] for name in file.files}
    assert columns["event"].tolist() == list(range(*result_range(result)))
    assert (1 / columns["rank"]).mean() == pytest.approx(result["test"]["mrr"], abs=1e-6)
    assert (1 / columns["rank"])[columns["new_node"]].mean() == pytest.approx(result["test"]["mrr_new_nodes"], abs=1e-6)
    for name, metrics in result["baselines"].items():
        assert (1 / columns[f"rank_{name}"]).mean() == pytest.approx(metrics["mrr"], abs=1e-6)
    captured = json.loads((tmp_path / "run" / "result.json").read_text())["captured"]
    assert captured["local_batch"] == captured["global_batch"] == 200
    at = captured["batch_sizes"].index(200)
    assert captured["missing"] == sorted(captured["missing"])
    assert 0 < captured["missing"][at] < captured["missing_busy"][at] < 1


def result_range(result) -> tuple[int, int]:
    return result["split"]["val"], result["split"]["test"]
