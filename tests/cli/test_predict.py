"""`tgscale predict` as a user runs it."""

import json
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.stream.config import default_config, replace
from tgscale.stream.trainer import train_stream

from ..runs import TGSCALE, Launch, run_here

EVENTS = 2000
NEW = ("run", "--out", "p.parquet", "--events", "new.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run ``run``, and the test part of its stream as ``new.parquet``."""
    folder = tmp_path_factory.mktemp("cli-predict")
    stream = generate_stream(events=EVENTS, nodes=100, edge_features=0, bipartite=False)
    save_stream(stream, folder / "data")
    config = replace(default_config(folder / "data", folder / "run"), model__dim=8, train__epochs=1, device="cpu")
    train_stream(replace(config, quiet=True, train__batch_size=20))
    part = slice(stream.split().val, None)
    table = {"src": stream.src[part], "dst": stream.dst[part], "time": stream.time[part]}
    pq.write_table(pa.table(table), folder / "new.parquet")
    pq.write_table(pa.table({"src": [1, 2], "time": [int(stream.time[-1])] * 2}), folder / "queries.parquet")
    return folder


@pytest.fixture
def tgscale(monkeypatch, folder):
    """Runs a command in this process; its exit code."""
    monkeypatch.chdir(folder)

    return partial(run_here, monkeypatch)


def test_words_and_json(tgscale, capsys, tmp_path):
    out = str(tmp_path / "p.parquet")
    common = ("predict", "run", "--events", "new.parquet", "--after", "val")
    assert tgscale(*common, "--out", out, "--evaluate", "--keep-state") == 0
    printed = capsys.readouterr().out
    assert f"{out}.state  what the next ones may follow, with --after" in printed
    mrr = json.loads(Path("run/result.json").read_text())["test"]["mrr"]
    assert "300 events scored in" in printed
    assert f"MRR {mrr:.4f}" in printed
    assert tgscale(*common, "--out", out, "--queries", "queries.parquet", "--top-k", "2", "--overwrite", "--json") == 0
    captured = capsys.readouterr()
    done = json.loads(captured.out)
    assert (done["rows"], done["events"]) == (2, 300)
    assert captured.err == ""
    assert [len(top) for top in pq.read_table(out)["top_dst"].to_pylist()] == [2, 2]


def test_times_of_another_unit_are_pointed_out(tgscale, capsys, tmp_path):
    query = "SELECT src, dst, time * 100_000 AS time FROM source"
    argv = ("predict", "run", "--out", str(tmp_path / "p.parquet"), "--events", "new.parquet")
    assert tgscale(*argv, "--query", query) == 0
    assert "after the last one of the run's data" in capsys.readouterr().err
    assert tgscale(*argv, "--overwrite", "--after", "val") == 0
    assert "after the last one" not in capsys.readouterr().err


def test_one_row_is_not_several(tgscale, capsys, tmp_path):
    query = "SELECT 1 AS src, 2 AS dst, max(time) AS time FROM source"
    assert tgscale("predict", *NEW[:1], "--out", str(tmp_path / "p.parquet"), *NEW[3:], "--query", query) == 0
    assert "1 event scored in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("run", "--out", "p.parquet"), 2, "nothing to predict"),
        (("nothing", "--out", "p.parquet", "--events", "new.parquet"), 5, "is not a run directory"),
        (("run", "--out", "p.parquet", "--events", "new.parquet"), 3, "start from an earlier point: --after val"),
        (("run", "--out", "p.parquet", "--events", "new.parquet", "--src", "who"), 3, "has no column 'who' for src"),
        (("run", "--out", "p.parquet", "--event", "new.parquet"), 2, "--events"),
        ((*NEW, "--on-error", "drop", "--query", "SELECT src, dst, 1 AS time FROM source"), 3, "no row can be used"),
        ((*NEW, "--query", "SELECT * FROM source LIMIT 0"), 3, "the query has no rows"),
        (("run", "--out", "p.parquet", "--events", "new.parquet", "--events", "b.parquet"), 2, "after one --events"),
        (
            ("run", "--out", "p.parquet", "--events", "new.parquet", "--state", "new.parquet"),
            5,
            "--state new.parquet holds something else",
        ),
    ],
)
def test_mistakes_are_answered(tgscale, capsys, folder, argv, code, words):
    assert tgscale("predict", *argv) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert words in error
    assert not (folder / "p.parquet").exists()
    assert not (folder / "p.parquet.state").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "ctrl-c"])
def test_killed_and_asked_again_it_writes_the_same_file(folder, tmp_path, how):
    command = [*TGSCALE, "predict", str(folder / "run"), "--events", str(folder / "new.parquet"), "--after", "val"]
    command += ["--top-k", "5", "--save-every", "20"]
    whole = Launch(tmp_path, *command, "--out", "whole.parquet")
    assert whole.end() == 0, whole.printed
    saved = tmp_path / "p.parquet.state" / "checkpoints"
    launch = Launch(tmp_path, *command, "--out", "p.parquet")
    launch.wait_for("three saves", lambda: sum(int(f.name[5:]) >= 3 for f in saved.glob("step-*")))
    if how == "kill":
        assert launch.kill_all()
    else:
        launch.interrupt()
        assert launch.end() == 130
        assert "The same command goes on" in launch.printed
    assert not (tmp_path / "p.parquet").exists()
    again = Launch(tmp_path, *command, "--out", "p.parquet")
    assert again.end() == 0, again.printed
    assert "going on from row" in again.printed
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
