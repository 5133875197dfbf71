"""Runs that are killed, stopped, or short of room, and go on as if nothing had been; and runs on two machines."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from functools import cache
from pathlib import Path

import pytest

from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.stream.layout import Layout
from tgscale.train.checkpoint import Checkpointer

from ..runs import (
    EVENTS,
    NODES,
    OPTIONS,
    TGSCALE,
    TORCHRUN,
    Launch,
    differences_of_runs,
    is_alive,
    result_of,
    states_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Some 85 to 105 iterations each: four or five sweeps, and a dozen checkpoints.
EPOCHS = {"1x1x1": 5, "2x1x1": 8, "1x1x2": 8, "auto": 8, "1x2x2": 16, "emulated 2x1x2": 16}
EPOCHS = {layout: ["--train.epochs", str(epochs)] for layout, epochs in EPOCHS.items()}
LAYOUTS = ["1x1x1", "2x1x1", "1x2x2", "emulated 2x1x2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("survival")
    save_stream(generate_stream(events=EVENTS, nodes=NODES, edge_features=0), folder / "data")
    return folder


def train(folder: Path, run: str, layout: str, *more: str) -> Launch:
    if layout.startswith("emulated"):
        words = ["--emulate", layout.split()[1]]
    else:
        words = ["--layout", layout, "--workers", str(Layout.parse(layout).world)]
    options = [*OPTIONS, *EPOCHS[layout], *words, *more]
    return Launch(folder, *TGSCALE, "train", "--data", "data", "--run", run, *options)


def torchrun(folder: Path, run: str, layout: str, *words: str, data: Path | str = "data") -> Launch:
    options = [*OPTIONS, *EPOCHS[layout], "--layout", layout]
    return Launch(folder, *TORCHRUN, *words, "-m", "tgscale", "train", "--data", str(data), "--run-dir", run, *options)


def resume(folder: Path, run: Path) -> Launch:
    return Launch(folder, *TGSCALE, "train", "--resume", str(run.relative_to(folder)))


@pytest.fixture(scope="module")
def undisturbed(folder):
    """Layout -> a run of it that nothing has happened to, and the seconds until its first checkpoint."""

    def run(layout: str) -> tuple[Path, float]:
        path, began = folder / f"whole {layout}", time.monotonic()
        launch = train(folder, path.name, layout)
        launch.wait_for("a checkpoint", lambda: steps(path))
        seconds = time.monotonic() - began
        assert launch.end() == 0, launch.printed
        return path, seconds

    return cache(run)


def steps(run: Path) -> list[int]:
    return Checkpointer(run / "checkpoints" / "steps").steps()


class Moments:
    """Waits for a moment to kill a launch at: each named by a method.

    Args:
        launch: has just been started.
        run: its directory.
        start: about how many seconds it takes to start.
        rng: for what is random.
    """

    def __init__(self, launch: Launch, run: Path, start: float, rng: random.Random) -> None:
        self.launch, self.run, self.start, self.rng = launch, run, start, rng
        self.before = steps(run)

    def starting(self) -> None:
        time.sleep(self.rng.uniform(0, self.start))

    def writing(self) -> None:
        kind = self.rng.choice(["steps", "best"])
        self.launch.wait_for("a write", lambda: list((self.run / "checkpoints" / kind).glob(".step-*")), 0.001)
        time.sleep(self.rng.uniform(0, 0.02))

    def sweeping(self) -> None:
        self.launch.wait_for("a checkpoint", lambda: steps(self.run) != self.before)
        time.sleep(self.rng.uniform(0, 0.5))

    def validating(self) -> None:
        self.launch.wait_for("the end of a sweep", lambda: " events in " in self.launch.printed)
        time.sleep(self.rng.uniform(0, 0.1))


MOMENTS = ["starting", "writing", "validating", "starting", "sweeping"]
KILLS = {"1x1x1": ["writing", *MOMENTS], "2x1x1": MOMENTS, "1x2x2": MOMENTS[1:], "emulated 2x1x2": MOMENTS}  # 20 in all


@pytest.mark.parametrize(("seed", "layout"), list(enumerate(LAYOUTS)))
def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(folder, undisturbed, seed, layout):
    whole, start = undisturbed(layout)
    run, rng = folder / f"killed {layout}", random.Random(seed)
    for moment in KILLS[layout]:
        launch = resume(folder, run) if (run / "config.yaml").exists() else train(folder, run.name, layout)
        getattr(Moments(launch, run, start, rng), moment)()
        assert launch.kill_all(), f"it ended before it was killed: {launch.printed}"
        assert launch.leaves_nothing()
    launch = resume(folder, run)
    assert launch.end() == 0, launch.printed
    assert "going on from iteration" in launch.printed
    assert not differences_of_runs(whole, run)


def test_a_checkpoint_holds_the_rows_of_kept_batches(folder, undisturbed):
    """Else the test above, with j = 2, would show less than it says."""
    whole, _ = undisturbed("1x2x2")
    step, states = states_of(whole, before=1)  # at the end nothing is kept
    kept = [work for state in states for work in state["own"]["kept"].values()]
    assert [work["position"] for work in kept] == [step - 1, step - 1]  # of one row of trainers, in both copies
    assert all(len(work["rows"]["memory"]) for work in kept)


def test_restarted_by_our_launcher_it_reaches_the_same(folder, undisturbed):
    whole, _ = undisturbed("2x1x1")
    run = folder / "restarted"
    launch = train(folder, run.name, "2x1x1", "--max-restarts", "2")
    for name in ("rank 1", "daemon"):
        before = steps(run)
        launch.wait_for("a checkpoint", lambda: steps(run) != before)  # noqa: B023  (called at once)
        launch.send("agent", signal.SIGSTOP)  # it is slow today, and trainers find the dead one before it does
        pid = launch.kill(name)
        launch.wait_for("its end", lambda: not is_alive(pid))  # noqa: B023
        time.sleep(1)
        launch.send("agent", signal.SIGCONT)
    assert launch.end() == 0, launch.printed
    assert not differences_of_runs(whole, run)
    assert launch.leaves_nothing()
    said = launch.printed
    assert said.count("all trainers start again") == 2
    assert "trainer 1 (process " in said
    assert "was killed by SIGKILL: all trainers start again (restart 1 of 2)" in said
    assert said.count("going on from iteration") == 2
    assert "Traceback" not in said


def test_restarted_by_torchrun_it_reaches_the_same(folder, undisturbed):
    whole, _ = undisturbed("2x1x1")
    run = folder / "restarted by torchrun"
    launch = torchrun(folder, run.name, "2x1x1", "--nproc-per-node", "2", "--max-restarts", "1")
    launch.wait_for("a checkpoint", lambda: steps(run))
    launch.kill("rank 0")
    assert launch.end() == 0, launch.printed
    assert not differences_of_runs(whole, run)
    assert launch.leaves_nothing()


def test_a_restart_does_not_take_the_run_of_another(folder, undisturbed):
    """The first start refuses a directory that holds a run; the second must not go on with that run."""
    whole, _ = undisturbed("1x1x1")
    launch = train(folder, whole.name, "1x1x1", "--max-restarts", "1")
    assert launch.end() == 5
    assert launch.printed.count("already holds a run") == 2


@pytest.mark.parametrize("name", ["rank 0", "rank 1", "daemon"])
def test_without_restarts_a_death_ends_the_run_and_is_named(folder, name):
    run = folder / f"without {name}"
    launch = train(folder, run.name, "2x1x1")
    launch.wait_for("a checkpoint", lambda: steps(run))
    pid = launch.kill(name)
    assert launch.end(60) == 5, launch.printed  # within seconds, unless the machine is very busy
    assert launch.leaves_nothing()
    if name == "daemon":
        assert f"the memory daemon of copy 0 (process {pid}) ended unexpectedly" in launch.printed
    else:
        assert f"trainer {name[-1]} (process {pid}) was killed by SIGKILL" in launch.printed
    assert launch.printed.count("tgscale train --resume") == 1
    assert "Traceback" not in launch.printed


def test_trainers_end_with_the_launcher(folder):
    run = folder / "orphans"
    launch = train(folder, run.name, "2x1x1")
    launch.wait_for("a checkpoint", lambda: steps(run))
    launch.kill("agent")
    assert launch.end() == -9
    assert launch.leaves_nothing()
    assert not (run / "result.json").exists()


def test_a_second_run_on_a_directory_is_refused_and_ctrl_c_ends_the_first(folder, undisturbed):
    whole, _ = undisturbed("2x1x1")
    run = folder / "shared"
    first = train(folder, run.name, "2x1x1")
    first.wait_for("a checkpoint", lambda: steps(run))
    first.stop()  # it is slow today
    others = [train(folder, run.name, "2x1x1"), resume(folder, run)]
    for other in others:
        assert other.end() == 5
        assert "shared is in use by a run that is still going (process " in other.printed
        assert len(other.printed.splitlines()) == 1
    before = steps(run)
    first.proceed()
    first.wait_for("another checkpoint", lambda: steps(run) != before)
    first.interrupt()
    assert first.end(60) == 130
    assert first.leaves_nothing()
    assert first.printed.count("tgscale: ") == 1
    assert "tgscale: stopped. Go on with: tgscale train --resume shared" in first.printed
    assert "Traceback" not in first.printed
    last = resume(folder, run)
    assert last.end() == 0, last.printed
    assert not differences_of_runs(whole, run)


@pytest.mark.parametrize("layout", ["2x1x1", "1x2x2"])
def test_ctrl_c_saves_where_all_ranks_are(folder, undisturbed, layout):
    whole, _ = undisturbed(layout)
    run = folder / f"stopped {layout}"
    first = train(folder, run.name, layout, "--checkpoint-every", "1000")
    first.wait_for("the end of a sweep", lambda: " events in " in first.printed)
    first.interrupt()
    assert first.end(60) == 130, first.printed
    assert first.leaves_nothing()
    assert first.printed.count("stopping as soon as a checkpoint can be saved") == 1
    assert f"tgscale: stopped. Go on with: tgscale train --resume {run.name}" in first.printed
    last, saved = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]), steps(run)[-1]
    assert saved > last["iteration"]  # within a sweep, where no other checkpoint would be
    second = resume(folder, run)
    assert second.end() == 0, second.printed
    assert f"going on from iteration {saved}" in second.printed
    assert not differences_of_runs(whole, run)


def test_ctrl_c_before_anything_is_done_leaves_nothing(folder):
    launch = train(folder, "never", "2x1x1")
    launch.wait_for("the ranks", lambda: "rank 1" in launch.processes())
    time.sleep(0.5)  # Python is up
    launch.interrupt()
    assert launch.end(60) == 130
    said = r"(tgscale: stopped\.)( never held nothing worth keeping yet and was removed\.)?"  # as far as it had come
    assert re.fullmatch(said, launch.printed.strip().splitlines()[-1]), launch.printed
    assert launch.printed.count("tgscale: stopped") == 1
    assert not (folder / "never").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system to fill")
def test_a_full_disk_ends_the_run_and_spoils_nothing(folder, undisturbed):
    whole, _ = undisturbed("2x1x1")
    disk, run = folder / "disk", folder / "disk" / "run"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        launch = train(folder, "disk/run", "2x1x1")
        launch.wait_for("a checkpoint", lambda: steps(run))
        fill(disk / "filler")
        assert launch.end() == 5, launch.printed
        assert "cannot be written (No space left on device)" in launch.printed
        assert launch.printed.count("tgscale: ") == 2  # what happened, and how to go on
        assert "Traceback" not in launch.printed
        assert not list(run.rglob("*.tmp*"))
        assert steps(run)
        (disk / "filler").unlink()
        launch = resume(folder, run)
        assert launch.end() == 0, launch.printed
        assert not differences_of_runs(whole, run)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(file: Path) -> None:
    """Take all the room there is."""
    with contextlib.suppress(OSError), open(file, "wb", buffering=0) as handle:
        while True:
            handle.write(bytes(4096))


# Two machines, by two torchruns that meet as if they were on two.


@pytest.mark.parametrize(
    ("layout", "each", "backend"),
    [("1x2x2", 2, "shared"), ("2x1x1", 1, "replicated"), ("auto", 1, "local")],
)
def test_two_machines_give_the_bits_of_one(folder, undisturbed, layout, each, backend):
    """Groups that fit stay on a machine; where a group spans machines, each trainer keeps the memory itself."""
    run = folder / f"{layout} on two"
    for launch in two_machines(folder, run.name, layout, each):
        assert launch.end() == 0, launch.printed
    whole, _ = undisturbed("1x1x2" if layout == "auto" else layout)
    trained = result_of(run)["train"]
    assert (trained["machines"], trained["memory_backend"]) == (2, backend)
    assert not differences_of_runs(whole, run, except_for=("machines", "memory_backend"))


def test_a_death_on_one_machine_ends_both(folder):
    run = folder / "half dead"
    launches = two_machines(folder, run.name, "1x1x2", each=1)
    launches[0].wait_for("a checkpoint", lambda: steps(run))
    launches[1].kill(next(name for name in launches[1].processes() if name.startswith("rank")))
    for launch in launches:
        assert launch.end(60) != 0
        assert launch.leaves_nothing()
    assert "lost its connection to another" in launches[0].printed
    assert "SIGKILL" in launches[1].printed


def test_a_run_directory_that_one_machine_does_not_see_is_refused(folder):
    (folder / "elsewhere").mkdir()
    launches = two_machines(folder, "unseen", "1x1x2", each=1, second=folder / "elsewhere")
    for launch in launches:
        assert launch.end() != 0
        assert "unseen is not seen here: the run directory must lie on a file system that all share" in launch.printed
    assert not (folder / "unseen").exists()
    assert not (folder / "elsewhere" / "unseen").exists()


def two_machines(folder: Path, run: str, layout: str, each: int, second: Path | None = None) -> list[Launch]:
    """A run by two torchruns with some trainers each; the second may run in another folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        "--nnodes",
        "2",
        "--nproc-per-node",
        str(each),
        "--rdzv-backend",
        "c10d",
        "--rdzv-id",
        run.replace(" ", "-"),
    ]
    words += ["--rdzv-endpoint", f"127.0.0.1:{port}"]
    return [torchrun(where, run, layout, *words, data=folder / "data") for where in (folder, second or folder)]
