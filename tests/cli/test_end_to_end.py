"""The commands as a user runs them, each in a process of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from ..runs import TGSCALE

TRAIN = ["train", "--data", "data", "--train.epochs", "2", "--device", "cpu", "--quiet"]


def tgscale(folder: Path, *argv: str) -> str:
    done = subprocess.run([*TGSCALE, *argv], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_data_to_an_evaluated_run_that_is_not_overwritten(tmp_path):
    tgscale(tmp_path, "data", "generate", "stream", "--out", "data", "--events", "3000", "--nodes", "300")
    assert tgscale(tmp_path, *TRAIN, "--run", "a", "--workers", "2", "--layout", "2x1x1") == ""
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["train"]["layout"] == "2x1x1"
    assert result["train"]["ranks"] == 2
    printed = json.loads(tgscale(tmp_path, "evaluate", "a", "--json"))
    assert printed["metrics"] == pytest.approx(result["test"])

    again = subprocess.run([*TGSCALE, *TRAIN, "--run", "a"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 5
    assert again.stderr == "tgscale: a already holds a run: go on with it by --resume, or give another --run.\n"
