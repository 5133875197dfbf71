"""`tgscale data` on snapshots: generate, import each kind of source, describe, refuse."""

import json
import lzma

import numpy as np
import pytest

from tgscale.cli import data
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import open_snapshots
from tgscale.data.store import kind_of
from tgscale.errors import ConfigError, StoreError

CSV = "src,dst,time,last,weight\n4,5,1,2,1\n5,6,2,2,3\n4,5,2,4,1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a source of each kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.csv").write_text(CSV)
    series = np.arange(12.0).reshape(6, 2)
    np.savez(tmp_path / "e.npz", speed=series, adj=np.eye(2))
    with lzma.open(tmp_path / "e.json.xz", "wt") as file:
        json.dump({"edges": [[0, 1]], "FX": series.tolist()}, file)
    data.main(["import", "e.csv", "--out", "stream", "--quiet"])
    return tmp_path


def test_generate(tmp_path, capsys):
    out = tmp_path / "slides"
    options = ["--nodes=200", "--snapshots=7", "--edges=400", "--change=10", "--skew=1", "--seed=3", "--features=2"]
    data.main(["generate", "snapshots", "--out", str(out), *options])
    found, expected = open_snapshots(out, verify=True), generate_snapshots(200, 7, 400, 10, 1, 2, seed=3)
    for name in ("neighbor", "indptr", "node_features", "target"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert found.name == "slides"
    assert capsys.readouterr().out.startswith(f"{out}: 7 snapshots, 200 nodes, {found.num_edges:,} edges, ")


def test_generate_refuses_a_target_that_exists_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "meta.json").write_text("{}")
    monkeypatch.setattr(data, "generate_snapshots", None)
    with pytest.raises(StoreError, match="already exists"):
        data.main(["generate", "snapshots", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("argv", "printed"),
    [
        (["e.csv", "--snapshots", "time"], "2 snapshots, 3 nodes, 3 edges, 1 to 2 in a snapshot"),
        (["e.csv", "--every", "1s", "--undirected"], "2 snapshots, 3 nodes, 6 edges, 2 to 4 in a snapshot"),
        (["e.csv", "--events-per-snapshot", "2"], "2 snapshots, 3 nodes, 3 edges, 1 to 2 in a snapshot"),
        (["e.csv", "--intervals", "time,last"], "4 snapshots, 3 nodes, 5 edges, 1 to 2 in a snapshot"),
        (["e.csv", "--snapshots", "time", "--edge-type", "weight"], "3 edges, 1 to 2 in a snapshot, 4 edge types"),
        (["stream", "--every", "1s"], "2 snapshots, 3 nodes, 3 edges, 1 to 2 in a snapshot"),
        (["e.json.xz", "--format", "pgt"], "2 snapshots (one graph for all), 2 nodes, 1 edge, "),
        (["e.json.xz", "--format", "pgt", "--lags", "2"], "4 snapshots (one graph for all)"),
        (["e.npz", "--series", "speed", "--format", "array"], "6 snapshots (one graph for all), 2 nodes, 2 edges"),
        (["e.npz", "--series", "speed", "--zscore", "--horizon=2", "--lags=3"], "3 node features, 1 to predict"),
    ],
)
def test_import(folder, capsys, argv, printed):
    data.main(["import", *argv, "--out", "out"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("read as ")
    assert ("src from 'src'" in lines[0]) == (argv[0] == "e.csv")
    assert printed in lines[1]
    assert lines[-1].startswith("out: ")
    assert kind_of("out") == "snapshots"


def test_what_was_dropped_and_what_looks_odd_is_said(folder, capsys):
    (folder / "e.csv").write_text(CSV + "4,5,soon,9,1\n")
    data.main(["import", "e.csv", "--every", "1d", "--out", "out", "--on-error", "drop", "--quiet"])
    printed = capsys.readouterr()
    assert "left out 1 row for its time, such as:\n" in printed.out
    assert "note: there is one snapshot only" in printed.out
    assert printed.err == ""


def test_info(folder, capsys):
    data.main(["import", "e.csv", "--snapshots", "time", "--out", "out", "--quiet"])
    capsys.readouterr()
    data.main(["info", "out", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["nodes"], found["edges"], found["weighted"]) == (2, 3, 3, True)
    data.main(["info", "out", "--verify"])
    assert "Snapshot sequence out" in capsys.readouterr().out
    (folder / "out" / "neighbor.npy").write_bytes((folder / "out" / "neighbor.npy").read_bytes()[:-1] + b"\7")
    with pytest.raises(StoreError, match="SHA-256"):
        data.main(["info", "out", "--verify"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["stream"], "stream is a data directory already; to make snapshots of its events say how: --snapshots"),
        (["e.csv", "--every", "1s", "--split", "last"], "--split does not go with an import of snapshots"),
        (["e.csv", "--undirected"], "--undirected does not go with an import of events: it is for an import of snap"),
        (["e.csv", "--lags", "3"], "it is for --format pgt and --format array"),
        (["e.json.xz", "--format", "pgt", "--every", "1d"], "--every does not go with --format pgt"),
        (["e.npz", "--series", "speed", "--src", "a"], "--src does not go with --format array"),
        (["e.npz", "e.npz", "--format", "array"], "2 sources were given: this format takes one file"),
        (["e.json.xz", "--format", "pgtt"], r"unknown format 'pgtt'.*Did you mean pgt\?"),
        (["e.csv", "--every", "1d", "--snapshots", "time"], "snapshots and every were given"),
        (["stream", "--every", "1d", "--memory-limit", "3"], "no amount of memory"),
    ],
)
def test_mistakes(folder, argv, message):
    with pytest.raises(ConfigError, match=message):
        data.main(["import", *argv, "--out", "out"])
    assert not (folder / "out").exists()
