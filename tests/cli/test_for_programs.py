"""What programs rely on: exit codes, JSON, plain logs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tgscale import cli, errors
from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
SMALL = ["--train.epochs", "1", "--model.dim", "8", "--device", "cpu"]


@pytest.fixture
def tgscale(monkeypatch, tmp_path, capsys):
    """Runs a command in this process; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    save_stream(generate_stream(events=400, nodes=40, edge_features=0), tmp_path / "data")
    save_snapshots(generate_snapshots(nodes=60, snapshots=20, edges=80, features=2), tmp_path / "slides")

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["tgscale", *argv])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


def test_the_page_lists_the_codes_of_all_errors():
    listed = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", PAGE.read_text(), re.M) for code in cell.split(",")}
    codes = {each.exit_code for each in vars(errors).values() if isinstance(each, type)}
    assert listed == codes | {0, 130, 143}


@pytest.mark.parametrize("error", [each for each in vars(errors).values() if isinstance(each, type)])
def test_an_error_ends_with_its_code_and_no_traceback(monkeypatch, tgscale, error):
    def fail(*_):
        raise error("what it is, and what to do")

    monkeypatch.setattr(cli, "dispatch", fail)
    assert tgscale("train") == (error.exit_code, "", "tgscale: what it is, and what to do\n")


@pytest.mark.parametrize(
    "argv",
    [
        ("data", "info", "data", "--json"),
        ("data", "info", "slides", "--json"),
        ("explain", "slides", "--model", "tgcn", "--json"),
        ("simulate", "slides", "--json"),
        ("train", "--data", "data", "--run", "r", *SMALL, "--json"),
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_json_alone_on_stdout(tgscale, argv):
    code, out, _ = tgscale(*argv)
    assert code == 0
    assert isinstance(json.loads(out), dict)


@pytest.mark.parametrize(
    "argv",
    [
        ("explain", "slides", "--model", "tgcn", "--out", "/proc/plan.svg"),
        ("report", "r", "--figures", "file/figures"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tgscale, argv):
    Path("file").touch()
    Path("r").mkdir()
    Path("r/config.yaml").write_text("data: data\nrun: r\nmodel: {name: tgn}\n")
    code, _, err = tgscale(*argv)
    assert code == 5
    assert re.search(r"tgscale: \S+ cannot be read or written \(.+\): name another place\.\n$", err)


def test_evaluation_prints_json_also_of_what_is_no_number(tgscale, monkeypatch):
    from tgscale.cli import evaluate as command

    Path("r").mkdir()
    Path("r/config.yaml").write_text("data: data\nrun: r\n")
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: {"metrics": {"mrr": float("nan")}})
    code, out, _ = tgscale("evaluate", "r", "--json")
    assert (code, json.loads(out, parse_constant=pytest.fail)) == (0, {"metrics": {"mrr": None}})


def test_the_json_of_training_is_its_result(tgscale):
    _, out, _ = tgscale("train", "--data", "data", "--run", "r", *SMALL, "--json", "--quiet")
    assert json.loads(out) == json.loads(Path("r/result.json").read_text())


@pytest.mark.slow
def test_a_log_file_has_no_colours_and_no_bars(tgscale, tmp_path):
    with open(tmp_path / "log", "w") as log:
        words = ["train", "--data", "data", "--run", "r", *SMALL]
        subprocess.run([sys.executable, "-m", "tgscale", *words], stdout=log, stderr=log, check=True)
    text = (tmp_path / "log").read_text()
    assert "\x1b" not in text
    assert "\r" not in text
    assert text.startswith("training tgn on ")


@pytest.mark.slow
def test_no_color_on_a_terminal(tgscale, tmp_path):
    import pty

    def printed(**env):
        leader, follower = pty.openpty()
        words = [sys.executable, "-m", "tgscale", "data", "info", "data"]
        process = subprocess.Popen(words, stdout=follower, env={**os.environ, "TERM": "xterm-256color", **env})
        os.close(follower)
        text = b""
        try:
            while chunk := os.read(leader, 4096):
                text += chunk
        except OSError:  # the end, on Linux
            pass
        assert process.wait() == 0
        return text

    coloured = re.compile(rb"\x1b\[[0-9;]*3[0-7]m")
    os.environ.pop("NO_COLOR", None)
    assert not coloured.search(printed(NO_COLOR="1"))
