import json
import subprocess
import sys

import numba
import pytest
import torch

import tgscale
from tgscale.errors import ConfigError
from tgscale.train import environment
from tgscale.train.environment import describe_environment, find_device, peak_memory_bytes, set_threads


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_takes_a_gpu_when_there_is_one(monkeypatch):
    gpus(monkeypatch, 0)
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    gpus(monkeypatch, 2)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cuda:1") == torch.device("cuda:1")
    assert find_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_with_what_is(monkeypatch):
    gpus(monkeypatch, 0)
    with pytest.raises(ConfigError, match=r"'cuda' is not available: choose one of auto, cpu\. No GPU was found"):
        find_device("cuda")
    gpus(monkeypatch, 2)
    with pytest.raises(ConfigError, match=r"'cuda:2' .* auto, cpu, cuda, cuda:0, cuda:1\.$"):
        find_device("cuda:2")
    with pytest.raises(ConfigError, match="'gpu'"):
        find_device("gpu")


def test_threads_of_torch_and_numba_go_together(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr(environment, "_cores", lambda: 3)
    try:
        for asked, expected in ((1, 1), (3, 3), (64, 3), (None, 3)):
            assert set_threads(asked) == torch.get_num_threads() == expected
            assert numba.get_num_threads() == min(expected, numba.config.NUMBA_NUM_THREADS)
    finally:
        set_threads(before)


def test_a_thread_count_below_one_is_refused():
    with pytest.raises(ConfigError, match="threads is 0"):
        set_threads(0)


def test_peak_memory_grows_with_what_is_held():
    # In a process of its own: a peak never goes down, and this process may have held more before.
    code = (
        "from tgscale.train.environment import peak_memory_bytes\n"
        "before = peak_memory_bytes()\n"
        "held = b'x' * 300_000_000\n"
        "print(peak_memory_bytes() - before)"
    )
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 250e6 < grown < 400e6
    assert peak_memory_bytes() > 50e6


def test_environment_is_plain_and_complete():
    found = json.loads(json.dumps(describe_environment()))
    assert found["torch"] == torch.__version__
    assert found["tgscale"] == tgscale.__version__
    assert found["command"] == sys.argv
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 100e6
    assert {"date", "commit", "python", "numpy", "numba", "cpu", "gpus"} <= set(found)


def test_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    package = tmp_path / "src" / "tgscale"
    (package / "train").mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(package / "train" / "environment.py"))
    assert environment._commit() is None

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    (package / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    assert environment._commit() == git("rev-parse", "HEAD")
    (package / "a.py").write_text("2")
    assert environment._commit() == git("rev-parse", "HEAD") + "-dirty"
