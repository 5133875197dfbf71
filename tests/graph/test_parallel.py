import os
import subprocess
import sys

import pytest
import torch

from tgscale.graph import parallel

FIRST_START = """
import torch
from tgscale.graph.parallel import start_threads
torch.set_num_threads(1)
print(start_threads(), torch.get_num_threads())
torch.set_num_threads(2)
print(start_threads(), torch.get_num_threads())
"""


def test_numbas_start_leaves_torchs_threads_alone():
    """In a fresh process, since Numba's threads start only once. Two of them need no second core."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FIRST_START], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1", "2", "2"], done.stderr


@pytest.mark.parametrize(("items", "threads"), [(0, 1), (2_047, 1), (4_096, 2), (8_192, 3), (10**9, 3)])
def test_threads_by_work(monkeypatch, items, threads):
    monkeypatch.setattr(parallel, "start_threads", lambda: 3)
    assert parallel.thread_count(items) == threads


def test_lower_of_two_settings():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert parallel.start_threads() == 1
    finally:
        torch.set_num_threads(before)
