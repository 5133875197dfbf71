"""Ctrl-C and SIGTERM while a run trains: a checkpoint, a word on how to go on, and the same result in the end."""

import os
import signal
from functools import partial

import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.snapshot_generate import generate_snapshots
from tgscale.data.snapshot_store import save_snapshots
from tgscale.data.store import save_stream
from tgscale.snapshot.loop import SnapshotLoop
from tgscale.stream.loop import TrainingLoop

from ..runs import TGSCALE, Launch, differences, lines_of, result_of, run_here

STREAM = ["--train.epochs", "3", "--model.dim", "8", "--train.batch-size", "20", "--train.patience", "0"]
SNAPSHOTS = [
    "--train.epochs",
    "3",
    "--window",
    "4",
    "--net.hidden",
    "4",
    "--assign",
    "count",
    "--executor",
    "serial",
    "--groups-per-step",
    "1",
]
WORDS = {"stream": STREAM, "snapshots": SNAPSHOTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupt")
    save_stream(generate_stream(events=600, nodes=60, edge_features=0), folder / "stream")
    sequence = generate_snapshots(nodes=60, snapshots=30, edges=80, features=2)
    save_snapshots(sequence, folder / "snapshots")
    return folder


@pytest.fixture
def tgscale(monkeypatch, folder):
    """Runs a command in this process; its exit code."""
    monkeypatch.chdir(folder)
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)

    return partial(run_here, monkeypatch)


def words(kind, run):
    return ["train", "--data", kind, "--run", run, "--device", "cpu", *WORDS[kind]]


@pytest.fixture(scope="module")
def whole():
    return set()


@pytest.mark.parametrize(("step", "number"), [(1, signal.SIGINT), (30, signal.SIGTERM)])
@pytest.mark.parametrize("kind", ["stream", "snapshots"])
def test_stopped_in_a_step_it_goes_on_bit_for_bit(tgscale, folder, whole, monkeypatch, capsys, kind, step, number):
    if kind not in whole:
        assert tgscale(*words(kind, f"whole-{kind}"), "--quiet") == 0
        whole.add(kind)
    loop = {"stream": TrainingLoop, "snapshots": SnapshotLoop}[kind]
    real, run = loop.step, f"{kind}-{step}-{number}"

    def stopping(self):
        if self.iteration == step:
            os.kill(os.getpid(), number)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", stopping)
        assert tgscale(*words(kind, run)) == 128 + number
    error = capsys.readouterr().err
    assert f"Go on with: tgscale train --resume {run}" in error
    assert f"training {'tgn on' if kind == 'stream' else 'tgcn on'}" in error
    assert tgscale("train", "--resume", run) == 0
    assert f"going on from iteration {step + 1}" in capsys.readouterr().err
    a, b = (result_of(folder / name) for name in (f"whole-{kind}", run))
    assert a["test"] == b["test"]
    assert a["val"] == b["val"]
    unequal = {"events_per_second", "seconds", "val_seconds", "imbalance", "sync_wait_seconds", "step_seconds"}
    lines = [
        [{k: v for k, v in x.items() if k not in unequal} for x in lines_of(folder / n)] for n in (f"whole-{kind}", run)
    ]
    assert not differences(*lines)


def test_before_the_first_step_nothing_is_left(tgscale, folder, monkeypatch, capsys):
    real = TrainingLoop.run

    def stopping(self, until, progress=None):
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, until, progress)

    monkeypatch.setattr(TrainingLoop, "run", stopping)
    assert tgscale(*words("stream", "never")) == 130
    assert capsys.readouterr().err.endswith("tgscale: stopped. never held nothing worth keeping yet and was removed.\n")
    assert not (folder / "never").exists()


@pytest.mark.slow
def test_ctrl_c_to_a_process(folder):
    options = [*words("stream", "process"), "--train.epochs", "40", "--checkpoint-every", "5"]
    whole = Launch(folder, *TGSCALE, *[word.replace("process", "undisturbed") for word in options])
    assert whole.end() == 0, whole.printed
    launch = Launch(folder, *TGSCALE, *options)
    launch.wait_for("a checkpoint", lambda: list((folder / "process" / "checkpoints" / "steps").glob("step-*")))
    launch.interrupt()
    assert launch.end() == 130
    assert "stopping as soon as a checkpoint can be saved" in launch.printed
    assert "Go on with: tgscale train --resume process" in launch.printed
    again = Launch(folder, *TGSCALE, "train", "--resume", "process")
    assert again.end() == 0, again.printed
    assert result_of(folder / "process")["test"] == result_of(folder / "undisturbed")["test"]
