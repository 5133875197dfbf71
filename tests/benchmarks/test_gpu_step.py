"""The benchmark of a step on a GPU: its arithmetic, its phases, and what it says where there is none."""

import sys
from pathlib import Path

import pytest
import torch

from tgscale.data.generate import generate_stream

ROOT = Path(__file__).parents[2]
PHASES = ["sample", "distinct nodes", "read memory", "absorb mail", "embed", "score, loss", "backward", "write memory"]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def stream():
    return generate_stream(events=600, nodes=40, edge_features=4, seed=1)


def test_the_floor_by_hand():
    from gpu_floor import Shape, floor

    # 2 events, 1 negative: 6 roots, 18 visits of rows of 4 + 4 + 3 + 1 = 12.
    found = floor(Shape(2, 1, 3, nodes=10, stream=7, dim=4, features=3, heads=2, parameters=100))
    assert list(found) == [*PHASES, "optimizer"]
    assert found["sample"] == ((2 + 6) * 3 * 8 + 18 * 3 * 2 * 8, 0)  # 7 events: 3 steps; three ids in and out
    assert found["read memory"] == (2 * 10 * (4 * 4 + 8 * 4 + 2 * 8), 0)
    assert found["absorb mail"][1] == 2 * 10 * (3 * 4) * (8 + 3 + 4 + 4)  # three gates from mail, event, time and state
    attention = 2 * (18 * 2 * 12) * 2  # scores and sums, a product and a sum each
    assert found["embed"][1] == attention + 6 * 2 * (4 * 8 + 2 * 2 * 2 * 12 + 4 * 8)
    assert found["write memory"] == (4 * 2 * (16 + 32 + 16), 0)
    assert found["optimizer"][0] == 7 * 4 * 100


def test_the_phases_are_the_step(stream):
    """Called in order, they leave the memory and the weights that the step leaves."""
    import gpu_step

    loops = [
        gpu_step.warm_loop(gpu_step.make_engine(stream, torch.device("cpu"), 50, model__dropout=0.0)) for _ in range(2)
    ]
    split, whole = loops
    whole.whole_step.start.fill_(whole.engine.split.train // 2)
    whole.whole_step.run()
    for _, call in gpu_step.phases(split):
        call()
    torch.testing.assert_close(split.memory_of(0), whole.memory_of(0))
    torch.testing.assert_close(split.engine.model.state_dict(), whole.engine.model.state_dict())


def test_the_paper_table(stream):
    import gpu_step

    lines = gpu_step.paper(stream, 50).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert [line[0] for line in cells] == [*PHASES, "optimizer", "**all**"]
    assert sum(int(line[3]) for line in cells[:-1] if line[3].isdigit()) == int(cells[-1][3]) > 100


def test_cache_rows(stream):
    import gpu_step

    (few, many) = gpu_step.caches(stream, torch.device("cpu"), 50, [1, 600])
    assert float(few[2].split()[0]) < float(many[2].split()[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this machine")
def test_without_a_gpu_it_says_so(monkeypatch, capsys, tmp_path):
    import gpu_step

    monkeypatch.setattr(sys, "argv", ["gpu_step.py", "--source", str(tmp_path), "--out", str(tmp_path)])
    gpu_step.main()
    assert "no GPU" in capsys.readouterr().out
