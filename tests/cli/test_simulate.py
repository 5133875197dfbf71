import json

import numpy as np
import pytest

from tests.runs import run_here
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.snapshots import SnapshotSequence
from tgscale.data.store import save_stream


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    step, src, dst = rng.integers(0, 12, 600), *rng.integers(0, 40, (2, 600))
    save_snapshots(SnapshotSequence.from_arrays(step, src, dst, num_nodes=40, name="village"), tmp_path / "data")
    return "data"


def run(monkeypatch, *argv):
    """Exit code of `tgscale simulate`."""
    monkeypatch.setenv("COLUMNS", "150")
    return run_here(monkeypatch, "simulate", *argv)


def test_prints_the_rows_and_what_they_rest_on(monkeypatch, data, capsys):
    assert run(monkeypatch, data, "--model", "lrgcn", "--devices", "1,2,4", "--machines-of", "2", "--window", "4") == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "village: an epoch of lrgcn on 9 groups of 4 snapshots, 4 groups per step",
        "cross-window",
        "group-count",
        "vertex",
        "measured or given: the sizes of the snapshots",
        "assumed: the time of a group",
        "note: nothing was timed",
    ):
        assert words in out


def test_json_with_a_profile_and_measured_costs(monkeypatch, data, capsys, tmp_path):
    (tmp_path / "gpu.yaml").write_text("overlap: 0.8\ndevice_bandwidth: 1.0e+12\n")
    np.save(tmp_path / "costs.npy", np.arange(1, 6, dtype=np.float32))
    argv = [data, "--devices", "2", "--stride", "2", "--window", "4", "--profile", "gpu.yaml", "--costs", "costs.npy"]
    more = ["--policies", "optimal", "--partitions", "blad,vertex", "--groups-per-step", "5", "--features", "7"]
    assert run(monkeypatch, *argv, *more, "--json", "--no-cache") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["data"] == {"name": "village", "steps": 12, "nodes": 40, "edges": printed["data"]["edges"]}
    assert printed["model"] == {"name": "tgcn", "features": 7, "hidden": 32, "cache": False}
    assert (printed["groups"], printed["groups_per_step"], printed["steps"]) == (5, 5, 1)
    blad, vertex = printed["rows"]
    assert (blad["partition"], blad["policy"], vertex["policy"]) == ("blad", "optimal", "-")
    assert blad["makespan_s"] - blad["communication_s"] == pytest.approx(0.8 * 8)  # 5 2 1 | 4 3
    assert "the time of each group, measured" in printed["measured"]
    assert "overlap 0.8, from the profile" in printed["measured"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--devices", "2,x"], 2, "--devices has 'x'"),
        (["--devices", "2,,4"], 2, "different values with commas"),
        (["--devices", "2,2"], 2, "different values with commas"),
        (["--devices", "0"], 2, "--devices has '0'"),
        (["--devices", "12"], 2, "do not fill machines of 8"),
        (["--policies", "lpt,best"], 2, "--policies has 'best'"),
        (["--partitions", "edge"], 2, "--partitions has 'edge'"),
        (["--hidden", "0"], 2, "--hidden is 0"),
        (["--groups-per-step", "0"], 2, "--groups-per-step is 0"),
        (["--window", "50"], 2, "only 12"),
        (["--profile", "none.yaml"], 2, "cannot be read"),
        (["--costs", "none.npy"], 2, "cannot be read as a .npy array"),
        (["--costs", "empty.npy"], 2, "cannot be read as a .npy array"),
        (["--costs", "broken.npz"], 2, "cannot be read as a .npy array"),
        (["--costs", "data/meta.json"], 2, "cannot be read as a .npy array"),
        (["--modle", "tgcn"], 2, "--model"),
    ],
)
def test_refuses_before_it_works(monkeypatch, data, capsys, tmp_path, argv, code, words):
    (tmp_path / "empty.npy").touch()
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and nothing more")
    assert run(monkeypatch, data, "--machines-of", "8", *argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in " ".join(captured.err.split())


def test_events_are_no_snapshots(monkeypatch, data, capsys, tmp_path):
    save_stream(generate_stream(events=50, nodes=20, edge_features=0), tmp_path / "events")
    assert run(monkeypatch, "events") == 4
    assert "snapshot" in capsys.readouterr().err
    assert run(monkeypatch, "nowhere") == 4


def test_the_models_are_those_that_have_a_shape():
    from typing import get_args, get_type_hints

    from tgscale.cli.simulate import SimulateCommand
    from tgscale.snapshot.config import SnapshotConfig
    from tgscale.snapshot.shapes import SHAPES

    offered = set(get_args(get_type_hints(SimulateCommand)["model"]))
    assert offered == set(SHAPES) == set(get_args(get_type_hints(SnapshotConfig)["model"]))
