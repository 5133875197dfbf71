"""`tgscale predict` of a run on snapshots."""

import json
from functools import partial

import pyarrow.parquet as pq
import pytest

from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.snapshot.config import SnapshotConfig, replace
from tgscale.snapshot.trainer import train_snapshots

from ..runs import run_here


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("forecast")
    save_snapshots(
        generate_snapshots(nodes=40, snapshots=30, edges=80, change=10, skew=1.0, features=3), folder / "data"
    )
    config = SnapshotConfig(folder / "data", folder / "run", task="link", window=4, quiet=True, executor="serial")
    train_snapshots(replace(config, train__epochs=1, net__hidden=8))
    return folder / "run"


@pytest.fixture
def predict(monkeypatch):
    """Runs the command in this process; its exit code."""
    return partial(run_here, monkeypatch, "predict")


def test_words_say_what_was_done(predict, run, tmp_path, capsys):
    out = tmp_path / "a.parquet"
    assert predict(str(run), "--out", str(out), "--steps", "28:31", "--top-k", "2") == 0
    printed = capsys.readouterr().out
    rows = pq.read_table(out).num_rows
    assert f"{rows:,} rows (link prediction, steps 28 to 30)" in printed
    assert "where the answer is known, as in an evaluation: MRR " in printed
    assert f"{out}  the predictions" in printed


def test_json_alone_where_it_is_asked_for(predict, run, tmp_path, capsys):
    assert predict("--json", "--out", str(tmp_path / "a.parquet"), str(run)) == 0
    printed = capsys.readouterr()
    done = json.loads(printed.out)
    assert (done["task"], done["steps"], done["metrics"]) == ("link prediction", [30, 31], None)
    assert done["rows"] == pq.read_table(tmp_path / "a.parquet").num_rows
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--events", "new.csv"],
            "--events is for runs on event streams, and this run is on snapshots: import what is new",
        ),
        (["--after=val"], "--after is for runs on event streams"),
        (["--keep-state"], "--keep-state is for runs on event streams"),
        (["--step", "3"], "--steps"),
        (["--steps", "val", "--snapshots", "x"], "--steps val is a part of the run's own data"),
    ],
)
def test_mistakes(predict, run, tmp_path, capsys, words, said):
    assert predict(str(run), "--out", str(tmp_path / "a.parquet"), *words) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_said_whatever_the_options(predict, tmp_path, capsys):
    assert predict(str(tmp_path / "typo"), "--steps", "test", "--out", "a.parquet") == 5
    assert "typo is not a run directory" in capsys.readouterr().err


def test_help_shows_both_kinds_until_a_run_is_named(predict, run, capsys):
    assert predict("--help") == 0
    both = capsys.readouterr().out
    assert "--events" in both
    assert "--snapshots" in both
    assert predict(str(run), "--help") == 0
    assert "--events" not in capsys.readouterr().out
