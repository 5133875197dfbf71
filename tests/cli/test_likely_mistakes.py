"""What a new user gets wrong first: each is answered before any work, in words that say what to type instead."""

import os
from functools import partial

import numpy as np
import pytest

from tests.runs import run_here
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import open_stream, save_stream
from tgscale.stream.config import default_config, replace
from tgscale.stream.trainer import train_stream


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``data``, ``snapshots``, a finished run ``run``, and ``events.csv`` with names of its own."""
    folder = tmp_path_factory.mktemp("mistakes")
    save_stream(generate_stream(events=400, nodes=40, edge_features=0), folder / "data")
    save_snapshots(generate_snapshots(nodes=60, snapshots=20, edges=80, features=2), folder / "snapshots")
    config = replace(default_config(folder / "data", folder / "run"), model__dim=8, train__epochs=1, device="cpu")
    train_stream(replace(config, quiet=True))
    (folder / "events.csv").write_text("User,ITEM,When\n1,2,3\n2,3,4\n")
    return folder


@pytest.fixture
def tgscale(monkeypatch, folder):
    """Runs a command in this process; its exit code."""
    monkeypatch.chdir(folder)
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)

    return partial(run_here, monkeypatch)


TRAIN = ("train", "--run", "new")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        # a wrong path
        (("data", "import", "nothing.csv", "--out", "x"), 3, ["nothing.csv not found", "give a file"]),
        ((*TRAIN, "--data", "nothing"), 4, ["nothing is not a tgscale data directory", "tgscale data import"]),
        # data that were not imported
        ((*TRAIN, "--data", "events.csv"), 4, ["it is a file", "tgscale data import events.csv --out DIR"]),
        # a column of another name, or of another case
        (("data", "import", "events.csv", "--out", "x"), 3, ["time", "it has User, ITEM, When", "--time NAME"]),
        (("data", "import", "events.csv", "--out", "x", "--time", "when"), 3, ["Did you mean 'When'?"]),
        # a run directory that is there
        (("train", "--data", "data", "--run", "run"), 5, ["already holds a run", "--resume", "another --run"]),
        # an option or a command misspelled
        ((*TRAIN, "--data", "data", "--train.epoch", "3"), 2, ["--train.epoch", "--train.epochs INT"]),
        (("trian", "--data", "data"), 2, ["Did you mean `tgscale train`?"]),
        (("data", "imprt", "events.csv", "--out", "x"), 2, ["`tgscale data imprt` is", "mean `tgscale data import`?"]),
        (("data", "generate", "strem", "--out", "x"), 2, ["mean `tgscale data generate stream`?"]),
        (("info", "data"), 2, ["`tgscale info` is not a command. Did you mean `tgscale data info`?"]),
        (("import", "events.csv"), 2, ["Did you mean `tgscale data import`?"]),
        (("version",), 2, ["Did you mean `tgscale --version`?"]),
        (("data", "export", "data", "--out", "x.csv", "--format", "tgb"), 2, ["Did you mean tgb-csv?"]),
        (("train", "data", "--run", "new"), 2, ["tgscale train --data data --run RUN"]),
        (("train", "missing.yaml", "--run", "new"), 2, ["config file missing.yaml cannot be read"]),
        # layout and number of processes
        ((*TRAIN, "--data", "data", "--layout", "2x1x1"), 2, ["--workers 2", "--emulate 2x1x1"]),
        ((*TRAIN, "--data", "data", "--layout", "2x1x1", "--workers", "3"), 2, ["give --workers 2"]),
        # a file of the other engine, a run where data are meant, data where a run is meant
        (("plan", "snapshots"), 4, ["holds a snapshot sequence"]),
        (("explain", "data"), 4, ["holds an event stream", "--every 1d"]),
        (("evaluate", "data"), 5, ["is not a run directory", "give the --run of a training on it"]),
        (("data", "info", "run"), 4, ["looks like a run directory"]),
        # a GPU that is not there
        ((*TRAIN, "--data", "data", "--device", "cuda:9"), 2, ["'cuda:9' is not available", "choose one of auto, cpu"]),
        # a place that cannot be written
        ((*TRAIN[:1], "--data", "data", "--run", "events.csv"), 5, ["events.csv is a file"]),
        ((*TRAIN[:1], "--data", "data", "--run", "/proc/new"), 2, ["0 bytes are free in /proc", "another disk"]),
    ],
)
def test_the_answer_says_what_to_do(tgscale, folder, capsys, argv, code, words):
    assert tgscale(*argv) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for word in words:
        assert word in error
    assert not (folder / "new").exists()
    assert not (folder / "x").exists()


def test_one_batch_of_everything_is_pointed_out(tgscale, capsys):
    argv = ["--train.batch-size", "5000", "--train.epochs", "1", "--model.dim", "8", "--device", "cpu"]
    assert tgscale("train", "--data", "data", "--run", "one-batch", *argv) == 0
    assert "give a smaller --train.batch-size, such as 2." in capsys.readouterr().err


def test_more_neighbors_than_any_node_has_are_pointed_out(tgscale, folder, capsys):
    stream = open_stream(folder / "data")
    most = np.bincount(np.concatenate([stream.src, stream.dst])).max()
    argv = ["--train.epochs", "1", "--model.dim", "8", "--device", "cpu", "--data", "data"]
    for name, model, neighbors, expected in (
        ("n1", "tgn", most + 1, 1),
        ("n2", "tgn", most, 0),
        ("n3", "jodie", 999, 0),
    ):
        words = ["--model", model, "--sampling.neighbors", str(neighbors)]
        assert tgscale("train", "--run", name, *words, *argv) == 0
        note = f"note: no node has more than {most} events: --sampling.neighbors {most} lets the model see as much"
        assert capsys.readouterr().err.count(note) == expected


def test_damaged_weights_are_named(tgscale, folder, capsys):
    for file in (folder / "run" / "checkpoints" / "best").rglob("*.safetensors"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        os.chmod(file, 0o644)
        file.write_bytes(data)
    assert tgscale("evaluate", "run") == 5
    error = capsys.readouterr().err
    assert "checkpoints in run/checkpoints/best are damaged" in error
    assert "start again with another --run" in error
