"""JSON of PyTorch Geometric Temporal: small files by hand, and the real ones against its loaders' formulas."""

import gzip
import json
import lzma

import numpy as np
import pytest

from tgscale.data.directory import read_json
from tgscale.data.snapshot_pgt import import_pgt
from tgscale.errors import ConfigError, DataError, StoreError

EDGES = [[0, 1], [2, 0], [1, 1]]
SERIES = [[1, 10, 5], [2, 20, 5], [3, 60, 5], [6, 30, 5]]


def run(tmp_path, data, **options):
    (tmp_path / "e.json").write_text(json.dumps(data))
    return import_pgt(tmp_path / "e.json", tmp_path / "out", **options).sequence


def rows(sequence, t):
    weights = sequence.edge_weight[sequence.edge_rows(t)].tolist()
    return {tuple(pair): w for pair, w in zip(np.stack(sequence.edges(t), axis=1).tolist(), weights, strict=True)}


def test_lagged_values_are_features_and_the_next_is_the_target(tmp_path):
    sequence = run(tmp_path, {"edges": EDGES, "node_ids": {}, "FX": SERIES}, lags=2)
    assert (sequence.num_steps, sequence.num_graphs, sequence.num_nodes) == (2, 1, 3)
    assert sequence.node_features.tolist() == [[[1, 2], [10, 20], [5, 5]], [[2, 3], [20, 60], [5, 5]]]
    assert sequence.target[:, :, 0].tolist() == [[3, 60, 5], [6, 30, 5]]
    assert rows(sequence, 1) == {(0, 1): 1, (2, 0): 1, (1, 1): 1}
    assert sequence.target_mean is None
    assert read_json(tmp_path / "out")["source"]["layout"] == "Chickenpox"


def test_weights_of_a_static_graph(tmp_path):
    sequence = run(tmp_path, {"edges": EDGES, "weights": [0.5, 2, 1], "X": SERIES}, lags=1)
    assert rows(sequence, 0) == {(0, 1): 0.5, (2, 0): 2, (1, 1): 1}
    assert sequence.target[:, 0, 0].tolist() == [2, 3, 6]


@pytest.mark.parametrize(
    "data",
    [
        {"edges": EDGES, "weights": [1, 1, 1], "block": SERIES},
        {"edges": EDGES, "weights": [1, 1, 1], "time_periods": 4} | {str(t): {"y": SERIES[t]} for t in range(4)},
        {
            "nodes": [{"bus_stop": 70 + n, "y": [row[n] for row in SERIES]} for n in range(3)],
            "links": [{"source": 70 + u, "target": 70 + v, "weight": 1} for u, v in EDGES],
        },
    ],
)
def test_standardised_series_go_back_to_their_units(tmp_path, data):
    sequence = run(tmp_path, data, lags=1)
    assert set(rows(sequence, 0)) == {(0, 1), (2, 0), (1, 1)}
    column = np.array(SERIES)[:, 0]
    np.testing.assert_allclose(sequence.target[:, 0, 0], (column[1:] - column.mean()) / column.std(), rtol=1e-6)
    back = sequence.target * sequence.target_std + sequence.target_mean
    np.testing.assert_allclose(back[:, :, 0], np.array(SERIES)[1:], rtol=1e-5)  # the third node never changes


def test_changing_graphs(tmp_path):
    graphs = {str(t): [[t % 3, 1]] for t in range(4)}
    weights = {str(t): [t + 0.5] for t in range(4)}
    data = {"edge_mapping": {"edge_index": graphs, "edge_weight": weights}, "time_periods": 4, "y": SERIES}
    sequence = run(tmp_path, data, lags=2)
    assert (sequence.num_steps, sequence.num_graphs) == (2, 2)
    assert [rows(sequence, t) for t in range(2)] == [{(0, 1): 0.5}, {(1, 1): 1.5}]


def test_tennis(tmp_path):
    step = {"edges": [[0, 1]], "weights": [3], "X": [[29, 0.25], [0, 1.0]]}
    data = {"time_periods": 2, "0": step | {"y": [7, 0]}, "1": step | {"y": [0, 1]}}
    sequence = run(tmp_path, data)
    # ln(30) = 3.4 rounds up to class 4 of 0..4, 0.25 is tenth 2 of 0..10; the features of all steps are alike here
    assert [np.flatnonzero(row).tolist() for row in sequence.node_features[1]] == [[4, 5 + 2], [0, 5 + 10]]
    np.testing.assert_allclose(sequence.target[:, :, 0], np.log([[1, 2], [1, 2]]), rtol=1e-6)
    with pytest.raises(ConfigError, match="--lags does not go with TwitterTennis"):
        run(tmp_path, data, lags=3, overwrite=True)


@pytest.mark.parametrize(("suffix", "opener"), [("xz", lzma.open), ("gz", gzip.open)])
def test_compressed(tmp_path, suffix, opener):
    with opener(tmp_path / f"e.json.{suffix}", "wt") as file:
        json.dump({"edges": EDGES, "FX": SERIES}, file)
    assert import_pgt(tmp_path / f"e.json.{suffix}", tmp_path / "out", lags=3).sequence.num_steps == 1


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ({"edges": EDGES}, {}, DataError, r"of no layout .* that is known \(Chickenpox, .*; its keys are \['edges'\]"),
        ([1, 2], {}, DataError, "holds list, a JSON object is expected"),
        ({"edges": EDGES, "FX": SERIES}, {}, ConfigError, "--lags 4 does not fit a series of 4 steps: give 1 to 3"),
        ({"edges": EDGES, "FX": SERIES}, {"lags": 0}, ConfigError, "--lags 0 does not fit"),
        ({"edges": [[0, 9]], "FX": SERIES}, {"lags": 1}, DataError, r"e\.json: dst is 9 at row 0"),
        ({"edges": EDGES, "FX": [[1, 2, None]] * 3}, {"lags": 1}, DataError, "value that is not finite"),
        ({"edges": EDGES, "FX": [[1, 2], [3]]}, {"lags": 1}, DataError, "is not as Chickenpox has it: ValueError"),
        ({"nodes": [{"y": [1]}], "links": []}, {}, DataError, "is not as MontevideoBus has it: KeyError 'bus_stop'"),
    ],
)
def test_mistakes(tmp_path, data, options, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path, data, **options)
    assert not (tmp_path / "out").exists()


def test_no_json(tmp_path):
    with pytest.raises(DataError, match="not found"):
        import_pgt(tmp_path / "none.json", tmp_path / "out")
    (tmp_path / "e.json.xz").write_bytes(b"no xz")
    with pytest.raises(DataError, match="is not a JSON file, or is cut short"):
        import_pgt(tmp_path / "e.json.xz", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(StoreError, match="already exists"):
        import_pgt(tmp_path / "none.json", tmp_path / "out")


REAL = {
    "chickenpox": (517, 1, 20, 102, 4),
    "england_covid": (53, 53, 129, 72_001, 8),
    "pedalme_london": (31, 1, 15, 225, 4),
    "montevideo_bus": (740, 1, 675, 690, 4),
    "twitter_tennis_rg17": (120, 120, 1_000, 40_839, 16),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data, tmp_path, name):
    sequence = import_pgt(shared_data(f"pgt/{name}.json.xz"), tmp_path / "out").sequence
    found = (sequence.num_steps, sequence.num_graphs, sequence.num_nodes, sequence.num_edges, sequence.node_dim)
    assert found == REAL[name]
    assert sequence.target.shape == (sequence.num_steps, sequence.num_nodes, 1)


def test_england_covid_is_what_its_loader_makes(shared_data, tmp_path):
    """The formulas of EnglandCovidDatasetLoader, written out for one step."""
    file = shared_data("pgt/england_covid.json.xz")
    sequence = import_pgt(file, tmp_path / "out").sequence
    with lzma.open(file) as opened:
        data = json.load(opened)
    series = np.array(data["y"])
    standard = (series - np.mean(series, axis=0)) / (np.std(series, axis=0) + 10**-10)
    np.testing.assert_allclose(sequence.node_features[30], standard[30:38].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sequence.target[30, :, 0], standard[38], rtol=1e-5, atol=1e-6)
    edges, weights = data["edge_mapping"]["edge_index"]["30"], data["edge_mapping"]["edge_weight"]["30"]
    assert rows(sequence, 30) == {tuple(edge): weight for edge, weight in zip(edges, weights, strict=True)}
