"""Series on a fixed graph: what a step shows, what it is to predict, and in which units."""

import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tgscale.data import snapshot_array
from tgscale.data.directory import read_json
from tgscale.data.snapshot_array import import_array
from tgscale.data.snapshot_store import open_snapshots
from tgscale.errors import ConfigError, DataError

SPEED = np.array([[1, 10], [2, 20], [3, 40], [5, 30], [8, 50]], np.float32)
ADJ = np.array([[0, 0.5], [0, 2]], np.float32)


@pytest.fixture
def run(tmp_path):
    def call(arrays=None, **options):
        np.savez(tmp_path / "e.npz", **({"speed": SPEED, "adj": ADJ, "ids": [7, 8]} if arrays is None else arrays))
        return import_array(tmp_path / "e.npz", tmp_path / "out", **options).sequence

    return call


def test_values_now_and_the_value_to_come(run):
    sequence = run()
    assert sequence.node_features[:, :, 0].tolist() == SPEED.tolist()
    assert sequence.target[:, :, 0].tolist() == SPEED[1:].tolist()
    assert [part.tolist() for part in sequence.edges(3)] == [[0, 1], [1, 1]]
    assert sequence.edge_weight.tolist() == [0.5, 2]
    assert (sequence.num_graphs, sequence.num_steps, sequence.target_mean) == (1, 5, None)
    assert sequence.step_time.tolist() == [0, 1, 2, 3, 4]


def test_the_last_steps_are_there_though_their_target_is_not_known_yet(run):
    sequence = run(horizon=3)
    assert (sequence.num_steps, sequence.num_targets) == (5, 2)
    assert sequence.target[:, :, 0].tolist() == SPEED[3:].tolist()
    again = open_snapshots(sequence.path, verify=True)
    assert (again.num_steps, again.num_targets, again.target_delay) == (5, 2, 3)


def test_horizon_lags_and_time_of_day(run):
    sequence = run(horizon=2, lags=2, steps_per_day=4)
    assert sequence.node_features[:, 0].tolist() == [[1, 2, 0.25], [2, 3, 0.5], [3, 5, 0.75], [5, 8, 0]]
    assert sequence.node_features[:, 1].tolist() == [[10, 20, 0.25], [20, 40, 0.5], [40, 30, 0.75], [30, 50, 0]]
    assert sequence.target[:, :, 0].tolist() == [[5, 30], [8, 50]]
    assert sequence.step_time.tolist() == [1, 2, 3, 4]


def test_zscore_knows_the_first_steps_only(run, tmp_path):
    sequence = run(zscore=True, train_share=0.6)
    mean, std = SPEED[:3].mean(), SPEED[:3].std()
    np.testing.assert_allclose(sequence.node_features[:, :, 0], (SPEED - mean) / std, rtol=1e-6)
    back = sequence.target * sequence.target_std + sequence.target_mean
    np.testing.assert_allclose(back[:, :, 0], SPEED[1:], rtol=1e-6)
    source = read_json(tmp_path / "out")["source"]
    assert (source["mean"], source["std"]) == ([pytest.approx(mean)], [pytest.approx(std)])


def test_channels_are_scaled_apart_and_the_first_is_the_target(run):
    values = np.stack([SPEED, 100 + 10 * SPEED], axis=2)
    sequence = run({"x": values, "adj": ADJ}, zscore=True, train_share=1.0)
    np.testing.assert_allclose(sequence.node_features[..., 0], sequence.node_features[..., 1], rtol=1e-5)
    np.testing.assert_allclose(sequence.target[:, :, 0], sequence.node_features[1:, :, 0], rtol=1e-6)


def test_a_longer_series_is_scaled_as_the_one_before(tmp_path):
    for name, steps in (("old", 3), ("new", 5)):
        np.savez(tmp_path / f"{name}.npz", speed=SPEED[:steps], adj=ADJ)
    old = import_array(tmp_path / "old.npz", tmp_path / "old", zscore=True).sequence
    new = import_array(tmp_path / "new.npz", tmp_path / "new", scale_as=tmp_path / "old").sequence
    assert new.node_features[:3].tolist() == old.node_features.tolist()
    assert (new.target_mean.tolist(), new.target_std.tolist()) == (old.target_mean.tolist(), old.target_std.tolist())
    plain = import_array(tmp_path / "old.npz", tmp_path / "plain").sequence
    assert import_array(tmp_path / "new.npz", tmp_path / "as", scale_as=plain.path).sequence.target_std is None
    with pytest.raises(ConfigError, match="--zscore is for measuring mean and deviation anew"):
        import_array(tmp_path / "new.npz", tmp_path / "x", zscore=True, scale_as=tmp_path / "old")
    np.savez(tmp_path / "wide.npz", speed=np.stack([SPEED, SPEED], axis=2), adj=ADJ)
    with pytest.raises(ConfigError, match="was not made from a series of 2 channels a node"):
        import_array(tmp_path / "wide.npz", tmp_path / "x", scale_as=tmp_path / "old")


def test_adjacency_of_another_file(run, tmp_path):
    np.save(tmp_path / "plain.npy", ADJ.T)
    np.savez(tmp_path / "named.npz", w=ADJ.T)
    for adjacency in (f"{tmp_path}/plain.npy", f"{tmp_path}/named.npz:w"):
        assert run(adjacency=adjacency, overwrite=True).edges(0)[0].tolist() == [1, 1]
    np.save(tmp_path / "series.npy", SPEED)
    report = import_array(tmp_path / "series.npy", tmp_path / "b", adjacency=f"{tmp_path}/plain.npy")
    assert report.sequence.num_steps == 5


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 40))
def test_written_in_blocks_it_is_the_same(tmp_path_factory, lags, horizon, block):
    tmp_path = tmp_path_factory.mktemp("blocks")
    series = np.random.default_rng(0).normal(size=(30, 3, 2)).astype(np.float32)
    np.savez(tmp_path / "e.npz", x=series, adj=np.eye(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_array, "CHUNK_BYTES", block * 100)
        sequence = import_array(tmp_path / "e.npz", tmp_path / "out", series="x", lags=lags, horizon=horizon).sequence
    for t in range(sequence.num_steps):
        expected = np.concatenate([series[t + lag] for lag in range(lags)], axis=1)
        np.testing.assert_array_equal(sequence.node_features[t], expected)
        if t < sequence.num_targets:
            np.testing.assert_array_equal(sequence.target[t], series[t + lags - 1 + horizon, :, :1])
    assert (sequence.num_steps, sequence.num_targets) == (30 - lags + 1, 30 - lags - horizon + 1)


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        (None, {"series": "sped"}, DataError, "has no array 'sped' for --series; it has speed, adj, ids"),
        ({"speed": SPEED, "more": SPEED, "adj": ADJ}, {}, DataError, "say which is the series, with --series"),
        ({"speed": SPEED}, {}, DataError, r"has no array 'adj': say where the adjacency matrix .* --adjacency"),
        (
            None,
            {"adjacency": "w"},
            DataError,
            r"--adjacency w is neither an array of .*e\.npz nor a \.npz",
        ),
        ({"speed": SPEED, "adj": np.eye(3)}, {}, DataError, r"'adj' of .* has shape \[3, 3\], expected \[2, 2\]"),
        ({"speed": SPEED, "adj": ADJ * np.nan}, {}, DataError, "has a weight that is not finite"),
        ({"speed": np.where(SPEED == 40, np.nan, SPEED), "adj": ADJ}, {}, DataError, "value of node 1 at step 2"),
        ({"speed": SPEED.astype(str), "adj": ADJ}, {}, DataError, r"the series is <U\d+ \[5, 2\], numbers"),
        ({"speed": SPEED.astype(object), "adj": ADJ}, {"series": "speed"}, DataError, "array 'speed' cannot be read"),
        ({"speed": SPEED, "adj": ADJ.astype(object)}, {"series": "speed"}, DataError, "array 'adj' cannot be read"),
        (
            {"speed": SPEED, "ids": np.array(["a", None]), "adj": ADJ},
            {},
            DataError,
            r"array 'ids' cannot be read .*: save it as plain numbers, .* With --series NAME no other",
        ),
        ({"speed": SPEED, "adj": ADJ.astype(str)}, {}, DataError, r"'adj' of .* is <U\d+, numbers expected"),
        (None, {"horizon": 5}, ConfigError, "--horizon 5 does not fit a series of 5 steps"),
        (None, {"horizon": 0}, ConfigError, "--horizon 0 does not fit"),
        (None, {"lags": 0}, ConfigError, "--lags 0 does not fit"),
        (None, {"steps_per_day": 0}, ConfigError, "--steps-per-day is 0"),
        (None, {"zscore": True, "train_share": 0}, ConfigError, "--train-share is 0"),
    ],
)
def test_mistakes(run, tmp_path, arrays, options, error, message):
    with pytest.raises(error, match=message):
        run(arrays, **options)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_array(tmp_path):
    with pytest.raises(DataError, match="not found"):
        import_array(tmp_path / "none.npz", tmp_path / "out")
    (tmp_path / "e.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"is no \.npz or \.npy file of plain numbers"):
        import_array(tmp_path / "e.npz", tmp_path / "out")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("series", [None, "speed"])
def test_a_damaged_array(tmp_path, save, series):
    """Another byte in the middle of the series: a check sum that is wrong, or nothing that can be unpacked."""
    save(tmp_path / "e.npz", speed=np.random.default_rng(0).random((50, 2)), adj=ADJ)
    content = bytearray((tmp_path / "e.npz").read_bytes())
    content[300] ^= 255
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"e\.npz: the array 'speed' cannot be read \(.*get the file anew"):
        import_array(tmp_path / "e.npz", tmp_path / "out", series=series)
    assert not (tmp_path / "out").exists()


def test_a_member_that_is_no_array(tmp_path):
    np.savez(tmp_path / "e.npz", speed=SPEED, adj=ADJ)
    with zipfile.ZipFile(tmp_path / "e.npz", "a") as archive:
        archive.writestr("readme.txt", "values of two sensors")
    with pytest.raises(DataError, match=r"'readme\.txt' is no array.* With --series NAME"):
        import_array(tmp_path / "e.npz", tmp_path / "out")
    assert import_array(tmp_path / "e.npz", tmp_path / "out", series="speed").sequence.num_steps == 5


def test_a_week_of_metr_la(shared_data, tmp_path):
    file, other = shared_data("metr_la_week/metr_la_week.npz"), shared_data("metr_la_week/dcrnn_adj_la.npz")
    sequence = import_array(file, tmp_path / "a", series="speed", adjacency="adj", zscore=True).sequence
    speed = np.load(file)["speed"]
    assert (sequence.node_features.shape, sequence.target.shape) == ((2_016, 207, 1), (2_015, 207, 1))
    back = sequence.target * sequence.target_std + sequence.target_mean
    np.testing.assert_allclose(back[:, :, 0], speed[1:], rtol=1e-4, atol=1e-4)
    by_dcrnn = import_array(file, tmp_path / "b", adjacency=str(other)).sequence
    assert by_dcrnn.num_edges == np.count_nonzero(np.load(other)["adj"])
