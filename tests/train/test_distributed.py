import os
import signal
import socket
import subprocess
import sys

import pytest
import torch

from tgscale.errors import ConfigError, RunError, StoreError
from tgscale.train.distributed import Ranks

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
TORCHRUN |= {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_RUN_ID": "x"}


class Answered(Ranks):
    """One of several ranks, where what all say is known beforehand; its own place is filled in."""

    def __init__(self, rank, answers):
        super().__init__(rank, len(answers))
        self.answers = answers

    def gather_objects(self, value):
        return [value if rank == self.rank else answer for rank, answer in enumerate(self.answers)]


def test_a_process_alone_is_rank_0_of_1(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    ranks = Ranks.from_environment()
    assert ranks == Ranks(0, 1, 0, 1, 0)
    assert ranks.is_first
    assert ranks.machines == 1
    assert ranks.starter == f"process {os.getpid()} on {socket.gethostname()}"


def test_what_torchrun_says_is_read(monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    ranks = Ranks.from_environment()
    assert ranks == Ranks(rank=5, world=8, local_rank=1, local_world=4, restarts=2)
    assert not ranks.is_first
    assert ranks.machines == 2
    assert ranks.starter == f"process {os.getppid()} on {socket.gethostname()}"


def test_alone_nothing_is_exchanged():
    ranks, tensor = Ranks(), torch.arange(3.0)
    with ranks.connected():
        ranks.sum(tensor)
        ranks.broadcast([tensor])
        ranks.barrier()
    assert not torch.distributed.is_initialized()
    assert tensor.tolist() == [0, 1, 2]
    assert ranks.broadcast_object("x") == "x"
    assert ranks.gather_objects("x") == ["x"]
    assert ranks.all_to_all(tensor, [3], [3]).tolist() == [0, 1, 2]


def test_an_error_of_one_process_alone_is_its_own():
    with pytest.raises(ConfigError, match=r"^no$"), Ranks().together():
        raise ConfigError("no")


def test_all_ranks_raise_what_one_has_met():
    with (
        pytest.raises(StoreError, match=r"^rank 1 on there: gone$"),
        Answered(0, [None, ("StoreError", "gone", "there")]).together(),
    ):
        pass


def test_what_all_have_met_is_said_without_a_rank():
    answers = [None, ("ConfigError", "wrong", "there"), ("ConfigError", "wrong", "there")]
    with pytest.raises(ConfigError, match=r"^wrong$"), Answered(0, answers).together():
        raise ConfigError("wrong")


def test_of_several_errors_all_raise_that_of_the_first_rank():
    with pytest.raises(StoreError, match="gone"), Answered(1, [("StoreError", "gone", "there"), None, None]).together():
        raise ConfigError("wrong")


def test_together_goes_on_when_nobody_fails():
    with Answered(0, [None, None]).together():
        done = True
    assert done


def test_other_errors_are_not_told_to_others():
    """They are faults, and end the process with a traceback; the others find it gone."""
    with pytest.raises(ZeroDivisionError), Answered(0, [None, None]).together():
        raise ZeroDivisionError


def test_a_lost_connection_is_said_in_words():
    cause = "[/src/gloo/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer. This is typically caused by x"
    with (
        pytest.raises(RunError, match="lost its connection to another, which has died") as caught,
        Ranks(3, 8)._lost_peer(),
    ):
        raise RuntimeError(cause)
    assert caught.value.__notes__ == ["(rank 3: Read error [127.0.0.1]:1: Connection reset by peer)"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_has_lost_another_waits_to_be_stopped_as_well(number):
    """torchrun, or Ctrl-C, has more to say of it."""
    program = """
import os, time
from tgscale.errors import LostPeerError
from tgscale.train import distributed

class Two(distributed.Ranks):
    def gather_objects(self, value):
        return [value, value]

distributed.STOPPED_WITHIN = float(os.environ["SECONDS"])
distributed.next = lambda _: (None, None, None)
distributed.rendezvous = distributed.meet = lambda *_, **__: None
distributed.dist.init_process_group = distributed.dist.new_group = lambda *_, **__: None
try:
    with Two(0, 2).connected():
        print("lost", flush=True)
        raise LostPeerError
except LostPeerError:
    print("said", flush=True)
"""

    def start(seconds: str) -> subprocess.Popen:
        env = {**os.environ, "TORCHELASTIC_RUN_ID": "1", "SECONDS": seconds}
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C counts, even where these tests run in the background of a shell, which ignores it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    process = start("60")
    assert process.stdout.readline() == b"lost\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=30)
    assert (said, process.returncode) == (b"", -number)
    assert start("0").communicate(timeout=30)[0] == b"lost\nsaid\n"


def test_machines_with_different_numbers_of_trainers_are_refused():
    Answered(0, [1, 1])._refuse_uneven()
    with pytest.raises(ConfigError, match="some machines have started 1 trainers and others 2: give torchrun the same"):
        Answered(0, [1, 2, 2])._refuse_uneven()


def test_sparse_gradients_alone_are_left_as_they_are():
    grad = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.ones(2, 3), (4, 3))
    assert Ranks().sum_sparse(grad, grad.shape) is grad


@pytest.mark.parametrize(("end", "code", "said"), [("SystemExit(5)", 5, []), ("ValueError('x')", 1, ["ValueError: x"])])
def test_connected_ranks_end_before_the_interpreter_does(end, code, said, tmp_path):
    """What runs at exit has run, and nothing after it: there threads of gloo may abort the process."""
    program = f"""
import atexit, sys
import torch.distributed as dist
from tgscale.train.distributed import end_if_connected

class Late:
    def __del__(self):
        print("finalized")

late = Late()
atexit.register(print, "left")
if sys.argv[1] == "connected":
    dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
try:
    raise {end}
except BaseException as end:
    end_if_connected(end)
    raise
"""
    for state, printed in (("connected", "left\n"), ("alone", "left\nfinalized\n")):
        ended = subprocess.run([sys.executable, "-c", program, state], capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (code, printed)
        assert [line.removeprefix("[rank0]: ") for line in ended.stderr.splitlines()[-1:]] == said


def test_others_wait_for_what_one_rank_does_alone(tmp_path):
    """Longer than they wait for each other's gradients."""
    program = """
import datetime, os, sys, time
import torch
from tgscale.train import distributed

distributed.TIMEOUT = datetime.timedelta(seconds=2)
rank = int(sys.argv[1])
os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=sys.argv[2], RANK=str(rank), WORLD_SIZE="2")
ranks = distributed.Ranks(rank, 2, rank, 2)
with ranks.connected():
    if ranks.is_first:
        time.sleep(4)
    with ranks.together():
        pass
    total = torch.ones(1)
    ranks.sum(total)
names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(int(total), [name for name in names if "gloo" in name])
"""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(rank), port], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    assert [process.communicate(timeout=120)[0] for process in started] == ["2 []\n"] * 2


def test_threads_of_gloo_end_with_the_process_group(tmp_path):
    """One that is left when Python ends may abort the process; an optimizer, once made, is enough to keep them."""
    program = f"""
import os, torch
import torch.distributed as dist
from tgscale.train.distributed import Ranks

dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
torch.optim.Adam([torch.ones(1)]).step()
Ranks(0, 2).sum(torch.ones(1))
dist.destroy_process_group()
names = [open(f"/proc/self/task/{{task}}/comm").read() for task in os.listdir("/proc/self/task")]
print([name for name in names if "gloo" in name])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
