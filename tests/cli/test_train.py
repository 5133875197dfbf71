import dataclasses
import json
import re
from pathlib import Path

import pytest

from tests.runs import run_here
from tgscale.cli import train as train_command
from tgscale.cli.engines import STREAM
from tgscale.cli.train import read_config
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream
from tgscale.errors import ConfigError
from tgscale.stream.config import default_config
from tgscale.train.config_io import to_dict
from tgscale.train.rundir import RunDirectory

SMALL = ["--train.epochs", "1", "--model.dim", "8", "--device", "cpu"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_stream(generate_stream(events=600, nodes=60, edge_features=2), tmp_path / "data")
    return "data"


def test_train_prints_a_table_and_where_everything_lies(monkeypatch, data, capsys, tmp_path):
    assert run_here(monkeypatch, "train", "--data", data, "--run", "runs/a", *SMALL) == 0
    out = capsys.readouterr().out
    for word in ("tgn", "edgebank", "recency", "runs/a/result.json", "600 events"):
        assert word in out
    result = json.loads((tmp_path / "runs" / "a" / "result.json").read_text())
    assert f"{result['test']['mrr']:.4f}" in out
    assert result["metric"] == "mrr"
    assert re.search(r"^test MRR (above|below) the best rule \(\w+\) by 0", out, re.M)


@pytest.mark.parametrize("words", [["--model", "jodie"], ["--model=jodie"], ["--model.name", "jodie"]])
def test_a_model_is_chosen_by_its_name(monkeypatch, data, capsys, tmp_path, words):
    assert run_here(monkeypatch, "train", "--data", data, "--run", "a", *words, *SMALL) == 0
    assert "jodie" in capsys.readouterr().out
    assert json.loads((tmp_path / "a" / "result.json").read_text())["model"] == "jodie"
    assert run_here(monkeypatch, "evaluate", "a", "--quiet") == 0
    assert "jodie" in capsys.readouterr().out


def test_help_lists_the_model_as_it_is_given(monkeypatch, capsys):
    assert run_here(monkeypatch, "train", "--help") == 0
    assert re.search(r"--model\.name STR, --model STR|--model STR, --model\.name STR", capsys.readouterr().out)


def test_a_model_may_stand_in_a_file_and_brings_its_sampling(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: d\nrun: r\nmodel: tgat\n")
    config = read_config(None, [str(file)])
    assert (config.model.name, config.sampling.strategy) == ("tgat", "uniform")
    file.write_text("data: d\nrun: r\nmodel: {name: graphmixer, gap: 5}\nsampling: {neighbors: 7}\n")
    config = read_config(None, [str(file)])
    assert (config.model.name, config.model.gap, config.sampling.neighbors) == ("graphmixer", 5, 7)
    file.write_text("data: d\nrun: r\nmodel: tgat\n")
    config = read_config("disttgl", [str(file), "--model", "apan"])
    assert config.sampling.strategy == "recent"
    assert (config.model.name, config.model.pair_encoding, config.preset) == ("apan", False, "disttgl")


def test_evaluate_prints_json(monkeypatch, data, capsys):
    run_here(monkeypatch, "train", "--data", data, "--run", "a", "--quiet", *SMALL)
    assert capsys.readouterr().out == ""
    assert run_here(monkeypatch, "evaluate", "a", "--split", "val", "--protocol", "ap", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["split"] == "val"
    assert printed["protocol"]["negatives"] == 1
    assert printed["baselines"]["recency"]["mrr_new_nodes"] is not None
    options = ("--protocol", "ap-dyglib", "--negatives", "historical", "--batch-size", "30", "--seed", "4")
    assert run_here(monkeypatch, "evaluate", "a", *options, "--json") == 0
    protocol = json.loads(capsys.readouterr().out)["protocol"]
    assert [protocol[key] for key in ("name", "draw", "batch_size", "seed")] == ["ap-dyglib", "historical", 30, 4]
    assert run_here(monkeypatch, "evaluate", "a", "--protocol", "tgb", "--negatives-per-event", "12", "--quiet") == 0
    assert "hits@10" in capsys.readouterr().out


def test_a_finished_run_is_said_to_be_finished(monkeypatch, data, capsys, tmp_path):
    run_here(monkeypatch, "train", "--data", data, "--run", "a", *SMALL)
    first, before = capsys.readouterr().out, (tmp_path / "a" / "result.json").read_bytes()
    (tmp_path / "data").rename(tmp_path / "gone")  # nothing is read again
    assert run_here(monkeypatch, "train", "--resume", "a") == 0
    again = capsys.readouterr()
    assert (again.out, again.err) == (first, "a is finished: nothing is left to train.\n")
    assert (tmp_path / "a" / "result.json").read_bytes() == before
    assert run_here(monkeypatch, "train", "--resume", "a", "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert run_here(monkeypatch, "train", "--resume", "a", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(before)


def test_a_finished_run_in_use_is_not_shown(monkeypatch, data, capsys, tmp_path):
    run_here(monkeypatch, "train", "--data", data, "--run", "a", "--quiet", *SMALL)
    with RunDirectory.open(tmp_path / "a"):
        assert run_here(monkeypatch, "train", "--resume", "a") == 5
    assert "a is in use by a run that is still going" in capsys.readouterr().err


def test_whether_progress_is_shown_may_change_when_a_run_goes_on(monkeypatch, data, capsys, tmp_path):
    run_here(monkeypatch, "train", "--data", data, "--run", "a", "--quiet", *SMALL)
    (tmp_path / "a" / "result.json").unlink()
    assert run_here(monkeypatch, "train", "--resume", "a", "--no-quiet") == 0
    assert "final pass over val: " in capsys.readouterr().err
    (tmp_path / "a" / "result.json").unlink()
    assert run_here(monkeypatch, "train", "--resume", "a") == 0
    assert capsys.readouterr() == ("", "")


def check_moved_data(monkeypatch, capsys):
    """All that needs the data of the run ``a`` asks for them when they have moved from ``data``, and finds them."""
    Path("a/result.json").unlink()
    Path("data").rename("moved")
    commands = (["evaluate", "a"], ["export", "a", "--out", "x"], ["train", "--resume", "a"])
    for words in commands:
        assert run_here(monkeypatch, *words) == 5
        lay = Path("data").absolute()
        assert f"the data of a lay at {lay}: give --data NEW, the place where they are now" in capsys.readouterr().err
    for words in commands:
        assert run_here(monkeypatch, *words, "--data", "other") == 5
        assert "is not what a was trained on" in capsys.readouterr().err
        assert run_here(monkeypatch, *words, "--data", "moved", "--quiet") == 0
    assert json.loads(Path("a/result.json").read_text())["test"]


def test_data_that_have_moved(monkeypatch, data, capsys, tmp_path):
    run_here(monkeypatch, "train", "--data", data, "--run", "a", "--quiet", *SMALL)
    save_stream(generate_stream(events=700, nodes=60, edge_features=2), tmp_path / "other")
    check_moved_data(monkeypatch, capsys)


def test_snapshots_that_have_moved(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("data", 0), ("other", 1)):
        save_snapshots(generate_snapshots(nodes=60, snapshots=20, edges=80, features=2, seed=seed), tmp_path / name)
    options = ["--window", "4", "--train.epochs", "1", "--executor", "serial", "--quiet"]
    assert run_here(monkeypatch, "train", "--data", "data", "--run", "a", *options) == 0
    check_moved_data(monkeypatch, capsys)


def test_without_a_checkpoint_other_data_are_other_options(monkeypatch, data, capsys, tmp_path):
    config = default_config(tmp_path / data, tmp_path / "a")
    RunDirectory.create(config.run, to_dict(config)).close()
    save_stream(generate_stream(events=700, nodes=60, edge_features=2), tmp_path / "other")
    assert run_here(monkeypatch, "train", "--resume", "a", "--data", "other") == 2
    assert "was begun with other options" in capsys.readouterr().err


def test_evaluate_leaves_the_own_destination_out_by_a_flag(monkeypatch, data, capsys):
    run_here(monkeypatch, "train", "--data", data, "--run", "a", "--quiet", *SMALL)
    assert run_here(monkeypatch, "evaluate", "a", "--quiet") == 0
    assert "caps the MRR; --exclude-own leaves it out." in capsys.readouterr().out
    for words, expected in (([], False), (["--exclude-own"], True), (["--no-exclude-own"], False)):
        assert run_here(monkeypatch, "evaluate", "a", *words, "--json") == 0
        assert json.loads(capsys.readouterr().out)["protocol"]["exclude_own"] == expected
    assert run_here(monkeypatch, "evaluate", "a", "--exclude-own", "--no-exclude-own") == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["tarin"], 2, ["Did you mean `tgscale train`?"]),
        (["train", "--data", "nothing", "--run", "a"], 4, ["nothing is not a tgscale data directory", "data import"]),
        (["train", "--data", "data"], 2, ["Missing from tgscale train:", "--run", "run tgscale train --help\n"]),
        (["train", "--data", "data", "--run", "a", "--train.epoch", "2"], 2, ["--train.epochs"]),
        (["train", "--data", "data", "--run", "a", "--train.lr", "0"], 2, ["train.lr is 0.0"]),
        (["train", "--data", "data", "--run", "a", "--eval.val", "nan"], 2, ["eval.val nan", "above 0"]),
        (["train", "--data", "data", "--run", "a", "--model.heads", "3"], 2, ["does not divide"]),
        (["train", "--data", "data", "--run", "a", "--model", "jody"], 2, ["Did you mean jodie?", "graphmixer"]),
        (["train", "--data", "data", "--run", "a", "--model", "tgcn"], 2, ["is for snapshots", "choose one of tgn"]),
        (["train", "--data", "data", "--run", "a", "--model", "jodie", "--model.heads", "4"], 2, ["no such option"]),
        (["train", "--data", "data", "--run", "a", "--preset", "tgl"], 2, ["default, disttgl"]),
        (["train", "--data", "data", "--run", "a", "--static.mode", "features"], 2, ["no node features"]),
        (["train", "--data", "data", "--run", "data"], 5, ["is not empty"]),
        (["train", "--resume", "a", "--seed", "1"], 2, ["leave out --seed"]),
        (["train", "--resume", "nothing"], 5, ["is not a run directory"]),
        (["train", "--data", "data", "--run", "a", "--eval.negatives-from", "x"], 2, ["for the protocol tgb"]),
        (["evaluate", "nothing"], 5, ["is not a run directory"]),
    ],
)
def test_mistakes_are_answered(monkeypatch, data, capsys, tmp_path, argv, code, words):
    assert run_here(monkeypatch, *argv) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for word in words:
        assert word in error
    assert not (tmp_path / "a").exists()  # refused before anything was made


def test_preset_then_file_then_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("preset: disttgl\ndata: d\ntrain: {lr: 0.5, epochs: 9}\n")
    config = read_config(None, ["c.yaml", "--run", "r.yaml", "--train.epochs", "7"])
    assert str(config.run) == "r.yaml"  # a path, not a second file of options
    assert config.preset == "disttgl"
    assert not config.model.pair_encoding  # from the preset
    assert config.train.lr == 0.5  # from the file
    assert config.train.epochs == 7  # from the flag
    (tmp_path / "c.yaml").write_text("train: {epoch: 9}\n")
    with pytest.raises(ConfigError, match=r"c.yaml: option train.epoch is unknown. Did you mean train.epochs\?"):
        read_config(None, ["c.yaml", "--data", "d", "--run", "r"])


def test_pair_groups_by_file_and_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("data: d\nrun: r\nmodel: {pair_groups: [rates, phase]}\n")
    assert read_config(None, ["c.yaml"]).model.pair_groups == ("rates", "phase")
    assert read_config(None, ["c.yaml", "--model.pair-groups", "habits"]).model.pair_groups == ("habits",)
    assert read_config(None, ["c.yaml", "--model.pair-groups"]).model.pair_groups == ()
    (tmp_path / "c.yaml").write_text("data: d\nrun: r\nmodel: {pair_groups: []}\n")
    assert read_config(None, ["c.yaml"]).model.pair_groups == ()
    with pytest.raises(ConfigError, match="stands twice"):
        read_config(None, ["c.yaml", "--model.pair-groups", "habits", "habits"])
    with pytest.raises(ConfigError, match="rate"):
        read_config(None, ["c.yaml", "--model.pair-groups", "rate"])


def test_ctrl_c_says_how_to_go_on(monkeypatch, data, capsys, tmp_path):
    def interrupted(config, resume):
        (tmp_path / "a").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "engine_of", lambda *_: dataclasses.replace(STREAM, train=interrupted))
    assert run_here(monkeypatch, "train", "--data", data, "--run", "a") == 130
    assert "tgscale train --resume a" in capsys.readouterr().err
