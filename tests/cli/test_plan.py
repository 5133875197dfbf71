import json
import sys

import pytest
import yaml

from tgscale import cli
from tgscale.cli.train import read_config
from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.stream import throughput

RATES = {"10": 500, "20": 950, "40": 1000}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_stream(generate_stream(events=2000, nodes=400, edge_features=2), tmp_path / "data")
    profile = {"device": "cpu", "rates": RATES, "machine": {"cpu": "Z80", "memory_bytes": 10**10}}
    (tmp_path / "z80.json").write_text(json.dumps(profile))
    return "data"


def run(monkeypatch, *argv):
    """Exit code of `tgscale plan`."""
    monkeypatch.setattr(sys, "argv", ["tgscale", "plan", *argv])
    monkeypatch.setenv("COLUMNS", "120")
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code or 0
    return 0


MANY = ["--machines", "2", "--gpus-per-machine", "4", "--max-missing", "0.5", "--max-missing-busy", "0.9"]


def test_prints_the_table_the_reasons_and_what_to_type_and_writes_a_plan(monkeypatch, data, capsys, tmp_path):
    assert run(monkeypatch, data, *MANY, "--device-profile", "z80.json", "--out", "plan.yaml") == 0
    out = " ".join(capsys.readouterr().out.split())  # as if lines never broke
    written = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert written == {"layout": written["layout"], "train": {"batch_size": 20}}
    i, j, k = written["layout"].split("x")
    for words in (
        "1,400 to train on",
        "500",
        "saturates",
        "largest allowed",
        written["layout"],
        f"i = {i}",
        f"j = {j}",
        f"k = {k}",
        "20 events per trainer",
        "the effective batch",
        "cpu (Z80)",
        "that of the machine that was measured",
        "torchrun --nnodes 2 --nproc-per-node 4",
        "-m tgscale train plan.yaml --data data --run-dir runs/plan",
    ):
        assert words in out
    assert (tmp_path / "plan.svg").read_text().startswith("<?xml")
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert read_config(None, ["plan.yaml", "--data=data", "--run=r"]).layout == written["layout"]


def test_without_out_nothing_is_written(monkeypatch, data, capsys, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert run(monkeypatch, data, "--gpus-per-machine", "2", "--device-profile", "z80.json") == 0
    assert "--out plan.yaml" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


def test_json_on_a_profile_that_is_measured_first(monkeypatch, data, capsys, tmp_path):
    monkeypatch.setattr(throughput, "STEPS", 1)
    argv = [data, *MANY, "--device", "cpu", "--memory-per-machine", "64GB", "--device-profile", "here.json", "--json"]
    assert run(monkeypatch, *argv) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert "training steps of 25 to 800 events" in captured.err
    assert printed["memory"]["bytes_per_machine"] == 64 * 10**9
    assert printed["profile"]["rates"] == json.loads((tmp_path / "here.json").read_text())["rates"]
    assert [row["batch_size"] for row in printed["batch_sizes"]][:3] == [25, 50, 100]
    assert run(monkeypatch, *argv) == 0
    again = capsys.readouterr()
    assert again.err == ""  # nothing measured
    assert json.loads(again.out) == printed


def test_the_options_of_a_run_stay_in_its_plan(monkeypatch, data, capsys, tmp_path):
    (tmp_path / "run.yaml").write_text("preset: disttgl\nmodel: {dim: 16}\ntrain: {epochs: 3, batch_size: 7}\n")
    argv = [data, "--gpus-per-machine", "2", "--device-profile", "z80.json", "--config", "run.yaml", "--out", "a.yml"]
    assert run(monkeypatch, *argv) == 0
    assert "tgscale train a.yml --data data --run runs/a --workers 2" in capsys.readouterr().out
    config = read_config(None, ["a.yml", "--data=data", "--run=r"])
    assert (config.preset, config.model.dim, config.train.epochs) == ("disttgl", 16, 3)
    assert config.train.batch_size != 7
    assert run(monkeypatch, *argv, "--preset", "default", "--overwrite") == 0
    assert read_config(None, ["a.yml", "--data=data", "--run=r"]).preset == "default"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["nothing"], 4, ["nothing is not a tgscale data directory"]),
        ([], 2, ["DIR", "Data directory"]),
        (["data", "--machines", "0"], 2, ["machines: 0"]),
        (["data", "--gpus-per-machine", "0"], 2, ["trainers per machine: 0"]),
        (["data", "--max-missing", "50"], 2, ["--max-missing is 50.0", "0 to 1"]),
        (["data", "--memory-per-machine", "64"], 2, ["--memory-per-machine '64'", "64GB"]),
        (["data", "--memory-per-machine", "1MB"], 2, ["does not fit", "model.dim"]),
        (["data", "--device-profile", "data"], 2, ["device profile data cannot be read"]),
        (["data", "--out", "plan.txt"], 2, ["no YAML file"]),
        (["data", "--out", "no/plan.yaml"], 2, ["no is not a directory"]),
        (["data", "--out", "there.yaml"], 2, ["there.png would be replaced", "--overwrite"]),
        (["data", "--device", "tpu"], 2, ["device 'tpu' is not available"]),
        (["data", "--config", "no.yaml"], 2, ["no.yaml cannot be read"]),
        (["data", "--machine", "2"], 2, ["--machines"]),
    ],
)
def test_mistakes_are_answered(monkeypatch, data, capsys, tmp_path, argv, code, words):
    (tmp_path / "there.png").touch()
    before = sorted(tmp_path.iterdir())
    profile = [] if {"tpu", "data"} & set(argv[1:]) else ["--device-profile", "z80.json"]
    assert run(monkeypatch, *argv, *profile) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for word in words:
        assert word in error
    assert sorted(tmp_path.iterdir()) == before
