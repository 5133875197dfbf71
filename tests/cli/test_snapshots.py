"""Snapshots from the command line: data, training alone and with several processes, evaluation, mistakes."""

import json
import sys

import pytest
import yaml

from tgscale import cli
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream

from ..runs import TGSCALE, TORCHRUN, Launch

QUICK = ["--window", "4", "--groups-per-step", "6", "--net.hidden", "8", "--train.epochs", "2", "--device", "cpu"]
QUICK += ["--executor", "serial", "--costs", "sizes"]


@pytest.fixture
def tgscale(monkeypatch, tmp_path, capsys):
    """Runs a command in this process; its exit code and all that it printed."""
    monkeypatch.chdir(tmp_path)
    for name in ("WORLD_SIZE", "RANK", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["tgscale", *map(str, argv)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def slides(tmp_path):
    """A data directory of small changing snapshots, with a target."""
    sequence = generate_snapshots(nodes=40, snapshots=30, edges=80, change=10, skew=1.0, seed=0, features=3)
    save_snapshots(sequence, tmp_path / "slides")
    return "slides"


def result_of(run):
    return json.loads((run / "result.json").read_text())


def test_from_data_to_a_trained_and_evaluated_model(tgscale, slides, tmp_path):
    code, printed = tgscale("train", "--data", slides, "--run", "r", "--model", "gclstm", *QUICK)
    assert code == 0
    for part in ("gclstm", "persistence", "historical average", "RMSE", "slides: 30 snapshots", "r/result.json"):
        assert part in printed
    result = result_of(tmp_path / "r")
    code, printed = tgscale("evaluate", "r", "--json")
    assert code == 0
    assert json.loads(printed)["metrics"] == result["test"]
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["window"] == 4


def test_a_yaml_file_and_flags_over_it(tgscale, slides, tmp_path):
    options = {"data": slides, "model": "lrgcn", "window": 3, "net": {"hidden": 8}, "train": {"epochs": 1}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(options))
    code, _ = tgscale("train", "c.yaml", "--run", "r", "--window", "5", "--executor", "serial", "--quiet")
    assert code == 0
    config = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    assert (config["model"], config["window"], config["net"]["hidden"]) == ("lrgcn", 5, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "tgnc"], "tgcn"),
        (["--model", "tgn"], "model tgn is for event streams, and the data are snapshots: choose one of tgcn"),
        (["--window", "40"], "window = 40"),
        (["--task", "edge"], "--label"),
        (["--partition", "vertex", "--assign", "lpt"], "leave assign out"),
        (["--preset", "disttgl"], "leave it out"),
        (["--layout", "2x1x1"], "layout"),
        (["--net.hiden", "8"], "hidden"),
        (["--train.lr", "-1"], "train.lr"),
        (["--eval.val", "nan"], "eval.val nan and eval.test 0.15 must both be above 0"),
        (["--eval.test", "0.9"], "eval.val 0.15 and eval.test 0.9 must both be above 0"),
    ],
)
def test_likely_mistakes(tgscale, slides, tmp_path, words, message):
    code, printed = tgscale("train", "--data", slides, "--run", "r", *words)
    assert code == 2
    assert message in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "r").exists()


def test_data_of_the_other_kind(tgscale, slides, tmp_path):
    save_stream(generate_stream(events=300, nodes=30, edge_features=0), tmp_path / "stream")
    code, printed = tgscale("explain", "stream")
    assert (code, "tgscale data import" in printed) == (4, True)
    code, printed = tgscale("plan", slides)
    assert (code, "snapshots" in printed) == (4, True)
    code, printed = tgscale("train", "--data", "nowhere", "--run", "r", "--window", "3")
    assert code == 4
    assert "nowhere" in printed


def near(a, b):
    for name, value in a.items():
        assert b[name] == pytest.approx(value, rel=2e-3), name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_learn_what_one_process_learns(slides, tmp_path):
    """Every partition on two processes against one process: the same steps, so the same model up to rounding."""
    words = ["train", "--data", slides, "--task", "link", "--quiet", *QUICK]
    assert Launch(tmp_path, *TGSCALE, *words, "--run", "one").end() == 0
    one = result_of(tmp_path / "one")
    for partition in ("blad", "group-count", "snapshot", "vertex"):
        launch = Launch(tmp_path, *TGSCALE, *words, "--run", partition, "--workers", "2", "--partition", partition)
        assert launch.end() == 0, launch.printed
        two = result_of(tmp_path / partition)
        near(one["test"], two["test"])
        assert two["train"]["ranks"] == 2
        assert (two["train"]["processes"][0]["bytes_sent"] > 0) == (partition in ("snapshot", "vertex"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_process_and_the_way_on(slides, tmp_path):
    words = ["train", "--data", slides, "--run-dir", "r", "--checkpoint-every", "2", "--train.patience", "0", *QUICK]
    words = [*words, "--train.epochs", "6"]
    whole = Launch(tmp_path, *TORCHRUN, "--nproc-per-node", "2", "-m", "tgscale", *words)
    assert whole.end() == 0, whole.printed
    (tmp_path / "r").rename(tmp_path / "whole")
    launch = Launch(tmp_path, *TGSCALE, *words, "--workers", "2")
    launch.wait_for("a checkpoint", lambda: list((tmp_path / "r" / "checkpoints" / "steps").glob("step-*")))
    launch.kill("rank 1")
    assert launch.end() != 0
    assert "was killed by SIGKILL" in launch.printed
    assert not launch.processes()
    again = Launch(tmp_path, *TGSCALE, "train", "--resume", "r")
    assert again.end() == 0, again.printed
    assert "going on from iteration" in again.printed
    assert result_of(tmp_path / "r")["test"] == result_of(tmp_path / "whole")["test"]
