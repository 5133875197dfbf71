"""`tgscale explain`: what it prints, what it draws, what it refuses."""

import json
import sys

import pytest

from tgscale import cli
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots


@pytest.fixture
def explain(monkeypatch, tmp_path, capsys):
    """Runs the command on small snapshots; its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    save_snapshots(generate_snapshots(nodes=40, snapshots=12, edges=80, skew=1.0, features=3), tmp_path / "slides")

    def run(*argv):
        monkeypatch.setattr(sys, "argv", ["tgscale", "explain", "slides", *argv])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_what_the_plan_of_tgcn_saves(explain):
    code, printed, _ = explain("--model", "tgcn")
    assert code == 0
    for part in ("gcn(x)", "once per run", "gru over the window on h", "one call", "40 nodes, 80 edges a snapshot"):
        assert part in printed
    assert "graph operator calls per group: 24 as written, 0 planned" in printed


def test_json_is_json_and_sums_up(explain, tmp_path):
    code, printed, said = explain("--model", "lrgcn", "--json", "--out", "plan.svg")
    assert code == 0
    found = json.loads(printed)
    assert "plan.svg" in said
    assert (tmp_path / "plan.svg").read_text().startswith("<?xml")
    once = [each for each in found["operators"] if each["stage"] == "once"]
    assert [each["depends"] for each in once] == ["const"] * len(once)
    assert found["as written"]["graph calls"] == 64
    assert any("hidden state" in note for note in found["notes"])


def test_without_a_rewrite_it_says_what_could_be_kept(explain):
    code, printed, _ = explain("--model", "tgcn", "--plan.no-cache")
    assert code == 0
    assert "could be kept" in printed
    assert "once per run" not in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "0"], "--window is 0"),
        (["--out", "a.jpeg"], ".svg"),
        (["--out", "nope/a.svg"], "nope is not a directory"),
        (["--model", "gcn"], "tgcn"),
    ],
)
def test_mistakes(explain, words, message):
    code, printed, said = explain(*words)
    assert code == 2
    assert message in printed + said
