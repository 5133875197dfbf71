import json
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tgscale.errors import ConfigError, RunError
from tgscale.train import checkpoint
from tgscale.train.checkpoint import Checkpointer
from tgscale.train.interrupt import Stopped


def same(a, b) -> bool:
    """Equal in type, structure and bits."""
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def shard(folder: Path, step: int) -> Path:
    return next((folder / f"step-{step:08d}").glob("*/*.safetensors"))


def test_every_kind_of_value_comes_back(tmp_path):
    state = {
        "tensors": {
            "matrix": torch.randn(3, 4),
            "scalar": torch.tensor(3),
            "empty": torch.empty(0, 5),
            "mask": torch.tensor([True, False]),
            "bytes": torch.arange(7, dtype=torch.uint8),
            "transposed": torch.randn(4, 6).t(),
            "double": torch.randn(2, dtype=torch.float64),
            "half": torch.randn(2).bfloat16(),
            "special": torch.tensor([math.nan, math.inf, -math.inf]),
        },
        "numbers": [1, 2**70, 0.1, math.inf, -0.0, True, None],
        "text": "größer / 'x'",
        "tuple": (0.9, 0.999),
        "int keys": {0: torch.ones(1), 1: {"deep": [torch.zeros(2), "x"]}},
        "nothing": {},
        "no items": [],
    }
    Checkpointer(tmp_path).save(5, state)
    step, loaded = Checkpointer(tmp_path).load()
    assert step == 5
    assert same(loaded, state)


def test_a_state_without_tensors(tmp_path):
    Checkpointer(tmp_path).save(1, {"epoch": 1})
    assert Checkpointer(tmp_path).load() == (1, {"epoch": 1})


def test_parameters_are_saved_without_their_graph(tmp_path):
    parameter = nn.Parameter(torch.randn(2))
    Checkpointer(tmp_path).save(1, {"p": parameter, "q": parameter * 2})
    loaded = Checkpointer(tmp_path).load()[1]
    assert same(loaded, {"p": parameter.detach(), "q": parameter.detach() * 2})
    assert not loaded["p"].requires_grad


@pytest.mark.parametrize("value", [object(), {1.5: 2}, {1, 2}, b"bytes", Path("x")], ids=lambda v: type(v).__name__)
def test_other_values_are_refused_before_anything_is_written(tmp_path, value):
    with pytest.raises(TypeError):
        Checkpointer(tmp_path).save(1, {"value": value})
    assert os.listdir(tmp_path) == []


def test_two_tensors_of_one_name_are_refused(tmp_path):
    with pytest.raises(TypeError, match="both called 'a/b'"):
        Checkpointer(tmp_path).save(1, {"a": {"b": torch.ones(1)}, "a/b": torch.ones(1)})


def test_training_goes_on_bit_for_bit(tmp_path):
    def new() -> tuple[nn.Module, list[torch.optim.Optimizer]]:
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        table = nn.Embedding(10, 4, sparse=True)
        whole = nn.ModuleList([model, table])
        return whole, [
            torch.optim.AdamW(model.parameters(), fused=True),
            torch.optim.SparseAdam(table.parameters(), lr=0.1),
        ]

    def train(whole: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int) -> None:
        for _ in range(steps):
            loss = whole[0](whole[1](torch.randint(0, 10, (6,)))).square().mean()
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    torch.manual_seed(0)
    whole, optimizers = new()
    train(whole, optimizers, 3)
    state = {
        "model": whole.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "rng": torch.get_rng_state(),
    }
    Checkpointer(tmp_path).save(3, state)
    train(whole, optimizers, 3)

    torch.manual_seed(1)
    resumed, resumed_optimizers = new()
    _, state = Checkpointer(tmp_path).load()
    resumed.load_state_dict(state["model"])
    for optimizer, saved in zip(resumed_optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    torch.set_rng_state(state["rng"])
    train(resumed, resumed_optimizers, 3)
    assert same(dict(resumed.state_dict()), dict(whole.state_dict()))


def test_the_newest_are_kept(tmp_path):
    saver = Checkpointer(tmp_path / "deep" / "folder", keep=2)
    for step in (1, 2, 9, 10):
        saver.save(step, {"step": step})
    assert saver.steps() == [9, 10]
    assert saver.load() == (10, {"step": 10})
    assert saver.load(9) == (9, {"step": 9})
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpointer(tmp_path, keep=0)


def test_a_step_may_be_saved_again(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"a": torch.zeros(2), "b": torch.zeros(2)})
    saver.save(1, {"a": torch.ones(1)})
    assert same(saver.load(), (1, {"a": torch.ones(1)}))


def test_none_at_all(tmp_path):
    assert Checkpointer(tmp_path / "missing").load() == (None, {})
    assert Checkpointer(tmp_path / "missing").steps() == []
    with pytest.raises(RunError, match="missing or incomplete"):
        Checkpointer(tmp_path).load(3)


def flip_a_bit(folder: Path) -> None:
    content = bytearray(shard(folder, 2).read_bytes())
    content[-1] ^= 1
    shard(folder, 2).write_bytes(content)


def truncate(folder: Path) -> None:
    os.truncate(shard(folder, 2), 20)


def lose_the_shard(folder: Path) -> None:
    shard(folder, 2).unlink()


def lose_the_state(folder: Path) -> None:
    (folder / "step-00000002" / "state.json").unlink()


def cut_the_state(folder: Path) -> None:
    os.truncate(folder / "step-00000002" / "state.json", 30)


def confuse_the_state(folder: Path) -> None:
    (folder / "step-00000002" / "state.json").write_text('{"ranks": [{"state": {"tensor": "elsewhere"}, "files": {}}]}')


@pytest.mark.parametrize(
    "damage", [flip_a_bit, truncate, lose_the_shard, lose_the_state, cut_the_state, confuse_the_state]
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"w": torch.ones(9)})
    saver.save(2, {"w": torch.zeros(9)})
    damage(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert same(saver.load(), (1, {"w": torch.ones(9)}))
    assert "step-00000002" in caplog.text
    with pytest.raises(RunError, match="step-00000002"):
        saver.load(2)


def test_all_damaged(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(2, {"w": torch.zeros(9)})
    truncate(tmp_path)
    with pytest.raises(RunError, match=r"all .*checkpoints in .* are damaged"):
        saver.load()


def test_those_of_another_number_of_ranks_are_not_called_damaged(tmp_path):
    saver = Checkpointer(tmp_path)
    saver.save(2, {"w": torch.zeros(9)})
    file = tmp_path / "step-00000002" / "state.json"
    state = json.loads(file.read_text())
    file.write_text(json.dumps({**state, "ranks": 2 * state["ranks"]}))
    with pytest.raises(ConfigError, match="is of 2 ranks, and now there are 1: start as many"):
        saver.load()


@pytest.mark.parametrize("at", ["open of a shard", "write of the state"])
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, monkeypatch, at):
    saver = Checkpointer(tmp_path)
    saver.save(1, {"w": torch.ones(9)})

    def no_room(*_, **__):
        raise OSError(28, "No space left on device")

    if at == "open of a shard":
        monkeypatch.setattr("torch.distributed.checkpoint.filesystem.FileSystem.create_stream", no_room)
    else:
        monkeypatch.setattr(checkpoint, "write_atomically", no_room)
    with pytest.raises(RunError, match=r"step-00000002 cannot be written \(No space left on device\)"):
        saver.save(2, {"w": torch.zeros(9)})
    assert os.listdir(tmp_path) == ["step-00000001"]


def test_a_second_ctrl_c_in_a_save_is_no_fault_of_the_disk(tmp_path, monkeypatch):
    """torch wraps whatever ends its writing, a KeyboardInterrupt, too."""
    saver = Checkpointer(tmp_path)
    saver.save(1, {"w": torch.zeros(9)})

    def stopped(*arguments, **options):
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(checkpoint.HuggingFaceStorageWriter, "write_data", stopped)
    with pytest.raises(Stopped):
        saver.save(2, {"w": torch.ones(9)})
    assert saver.steps() == [1]


def test_killed_in_the_middle_of_a_save(tmp_path):
    code = (
        "import os, sys, torch\n"
        "from tgscale.train import checkpoint\n"
        "saver = checkpoint.Checkpointer(sys.argv[1])\n"
        "saver.save(1, {'w': torch.ones(9)})\n"
        "checkpoint.os.rename = lambda *_: os.kill(os.getpid(), 9)\n"
        "saver.save(2, {'w': torch.zeros(9)})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    saver = Checkpointer(tmp_path)
    assert same(saver.load(), (1, {"w": torch.ones(9)}))
    saver.save(2, {"w": torch.zeros(9)})
    assert sorted(os.listdir(tmp_path)) == ["step-00000001", "step-00000002"]


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("exploited",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    """A hostile checkpoint, with pickles where torch.distributed.checkpoint looks for its own, runs nothing."""
    monkeypatch.chdir(tmp_path)
    saver = Checkpointer(tmp_path / "c")
    saver.save(1, {"w": torch.ones(9), "epoch": 1})
    folder = tmp_path / "c" / "step-00000001"
    for name in (".metadata", "__0_0.distcp", "rng.pt"):
        (folder / name).write_bytes(pickle.dumps(Exploit()))
    assert saver.load()[0] == 1
    shard(tmp_path / "c", 1).write_bytes(pickle.dumps(Exploit()))
    described = {f"rank-00000/{file.name}": checkpoint._describe(file) for file in folder.glob("*/*.safetensors")}
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"ranks": [state["ranks"][0] | {"files": described}]}))
    with pytest.raises(RunError, match="damaged"):
        saver.load(1)
    assert not (tmp_path / "exploited").exists()
    os.mkdir("exploited")  # the trap itself works
    with pytest.raises(FileExistsError):
        pickle.loads(pickle.dumps(Exploit()))
