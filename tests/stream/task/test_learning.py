"""Do the tasks learn? Against the rules beside them, and against what is known of the data."""

import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.ingest import import_events
from tgscale.data.store import save_stream
from tgscale.stream.config import PRESETS, replace
from tgscale.stream.trainer import train_stream


def result_of(data, run, **changes):
    return train_stream(replace(PRESETS["default"](data, run), quiet=True, device="cpu", **changes))


def best_rule(result, metric):
    return max(rule[metric] for rule in result["baselines"].values())


def test_classes_of_generated_events(tmp_path):
    """What can be known of them comes to an F1-micro of about 0.88; the model puts together what no rule does."""
    save_stream(generate_stream(events=8_000, nodes=300, edge_classes=10), tmp_path / "data")
    small = {"model__dim": 32, "sampling__neighbors": 5, "train__epochs": 3, "train__batch_size": 200}
    result = result_of(tmp_path / "data", tmp_path / "run", task__name="edge-class", **small)
    assert 0.80 < result["test"]["f1_micro"] < 0.88
    assert result["test"]["f1_micro"] > best_rule(result, "f1_micro") + 0.02
    assert result["test"]["ap_macro"] > best_rule(result, "ap_macro") + 0.02


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_states_of_wikipedia_users(shared_data, tmp_path):
    """Who is banned after an edit: 217 of 157,474 events; a head on the embeddings of a model of links."""
    events = shared_data("wikipedia/events.parquet")
    import_events(events, tmp_path / "data", bipartite=True)
    result_of(tmp_path / "data", tmp_path / "links", train__epochs=1)
    changes = {"task__name": "node-class", "task__init_from": tmp_path / "links", "train__epochs": 1}
    result = result_of(tmp_path / "data", tmp_path / "states", **changes)
    assert result["baselines"]["most frequent class"]["auc"] == 0.5
    assert 0.82 < result["test"]["auc"] < 0.95
    assert result["test"]["auc"] > best_rule(result, "auc") + 0.2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_classes_of_a_primary_school(shared_data, tmp_path):
    """Ten school classes and their teachers, from who meets whom. Partners' classes say nearly all of it."""
    nodes = shared_data("sociopatterns/primaryschool_nodes.csv")
    import_events(shared_data("sociopatterns/primaryschool.parquet"), tmp_path / "data", node_labels=nodes)
    static = {"static__mode": "pretrained", "static__epochs": 2, "static__dropout": 0.5}
    changes = {"task__name": "node-class", "task__past": 100, "train__epochs": 3, "train__patience": 0}
    result = result_of(tmp_path / "data", tmp_path / "run", static__cache=tmp_path / "cache", **static, **changes)
    assert result["baselines"]["most frequent class"]["accuracy"] == pytest.approx(0.118, abs=0.001)
    vote = result["baselines"]["vote of the latest partners"]["accuracy"]
    assert vote == pytest.approx(0.930, abs=0.001)
    assert result["test"]["accuracy"] > vote - 0.02
