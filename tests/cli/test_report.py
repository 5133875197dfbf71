import json

import pytest
import yaml

from tests.runs import run_here
from tgscale.errors import RunError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump({"data": "d", "run": name, "train": {}}))
    return "run"


def report(monkeypatch, *argv):
    """Exit code of `tgscale report`."""
    return run_here(monkeypatch, "report", *argv)


def test_of_one_run_it_lies_in_the_run(monkeypatch, run, tmp_path, capsys):
    assert report(monkeypatch, run) == 0
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!doctype html>")
    assert "run/report.html" in capsys.readouterr().err


def test_page_figures_and_json(monkeypatch, run, tmp_path, capsys):
    assert report(monkeypatch, run, "other", "--out", "a.html", "--figures", "figures", "--json") == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["runs"]] == ["run", "other"]
    assert (tmp_path / "a.html").exists()
    assert (tmp_path / "figures").is_dir()


def test_json_alone_writes_nothing(monkeypatch, run, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert report(monkeypatch, run, "--json") == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 2, "run directory"),
        (["run", "other"], 2, "--out FILE.html"),
        (["run", "--out", "a.pdf"], 2, "ends in .html"),
        (["run", "--out", "no/a.html"], 2, "is not a directory"),
        (["run", "--figures", "run/config.yaml"], 2, "is a file"),
        (["nowhere"], RunError.exit_code, "not a run directory"),
    ],
)
def test_mistakes_are_answered(monkeypatch, run, tmp_path, capsys, argv, code, words):
    before = sorted(tmp_path.rglob("*"))
    assert report(monkeypatch, *argv) == code
    assert words in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
