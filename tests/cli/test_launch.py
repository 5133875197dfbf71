"""Starting several processes: what is refused before that, who starts how many, and what is said once."""

import dataclasses
import sys
from functools import partial

import pytest

from tgscale import cli
from tgscale.cli import train as train_command
from tgscale.cli.engines import STREAM
from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream
from tgscale.errors import RunError
from tgscale.stream.config import default_config, replace
from tgscale.stream.trainer import train_stream
from tgscale.train import launcher
from tgscale.train.config_io import to_dict
from tgscale.train.rundir import RunDirectory

from ..runs import OPTIONS, TGSCALE, TORCHRUN, Launch, run_here

SMALL = ["--train.epochs", "1", "--model.dim", "8", "--device", "cpu"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WORLD_SIZE", "RANK", "TORCHELASTIC_ERROR_FILE"):
        monkeypatch.delenv(name, raising=False)
    save_stream(generate_stream(events=600, nodes=60, edge_features=0), tmp_path / "data")
    return "data"


@pytest.fixture
def tgscale(monkeypatch, data):
    """Runs a command in this process; its exit code."""
    return partial(run_here, monkeypatch)


@pytest.fixture
def started(monkeypatch):
    """Stands in for the launcher: what was started, and what comes of it."""

    class Started(list):
        outcome = staticmethod(lambda: 0)

    calls = Started()

    def start(count, restarts, words):
        calls.append((count, restarts, words))
        return calls.outcome()

    monkeypatch.setattr(launcher, "start_workers", start)
    return calls


TRAIN = ["train", "--data", "data", "--run", "a"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--layout", "2x1x2"], 2, ["needs 4 trainers", "--workers 4", "torchrun", "--emulate 2x1x2"]),
        (["--layout", "2x2x1", "--workers", "2"], 2, ["needs 4 trainers", "--workers is 2", "give --workers 4"]),
        (["--emulate", "1x1x2", "--workers", "2"], 2, ["runs all trainers in one process", "leave one out"]),
        (["--workers", "0"], 2, ["give 1 or more"]),
        (["--workers", "two"], 2, ["--workers", "invalid int value"]),
        (["--max-restarts", "-1"], 2, ["give 0 or more"]),
        (["--memory-backend", "replicated"], 2, ["this run is one", "choose auto"]),
        (["--run", "data/meta.json/a"], 5, ["--run data/meta.json/a cannot be written", "choose another directory"]),
    ],
)
def test_what_cannot_run_is_refused_with_what_to_change(tgscale, capsys, tmp_path, argv, code, words):
    train = TRAIN[: TRAIN.index("--run")] if "--run" in argv else TRAIN
    assert tgscale(*train, *SMALL, *argv) == code
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("option", ["--workers", "--max-restarts"])
def test_a_process_of_torchrun_starts_no_others(tgscale, monkeypatch, capsys, option):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tgscale(*TRAIN, option, "2") == 2
    assert f"{option} is for starting processes, which torchrun has done already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "count", "restarts"),
    [
        (["--workers", "4"], 4, 0),
        (["--workers=4", "--max-restarts=2"], 4, 2),
        (["--layout", "2x1x1", "--workers", "2"], 2, 0),
        (["--max-restarts", "1"], 1, 1),
    ],
)
def test_workers_get_the_command_without_what_starts_them(tgscale, started, argv, count, restarts):
    assert tgscale(*TRAIN, *argv) == 0
    layout = argv[:2] if argv[0] == "--layout" else []
    assert started == [(count, restarts, ["-m", "tgscale", *TRAIN, *layout])]


def test_a_file_that_is_the_command_is_what_workers_run(started, data, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mine/model.py", *TRAIN, "--workers", "2"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert started == [(2, 0, ["mine/model.py", *TRAIN])]


def test_a_resumed_run_starts_as_many_as_it_was_begun_with(tgscale, started, tmp_path, capsys):
    config = replace(default_config(tmp_path / "data", tmp_path / "a"), layout="1x2x2")
    RunDirectory.create(config.run, to_dict(config)).close()
    assert tgscale("train", "--resume", "a") == 0
    assert started == [(4, 0, ["-m", "tgscale", "train", "--resume", "a"])]
    assert tgscale("train", "--resume", "a", "--workers", "2") == 2
    assert (
        "layout 1x2x2 needs 4 trainers, and --workers is 2: give --workers 4, or leave it out"
        in capsys.readouterr().err
    )


def test_an_emulated_run_is_resumed_in_one_process(tgscale, started, tmp_path):
    config = replace(default_config(tmp_path / "data", tmp_path / "a"), emulate="1x1x2", train__epochs=1, model__dim=8)
    train_stream(replace(config, quiet=True))
    assert tgscale("train", "--resume", "a") == 0
    assert started == []


def save_a_step(run):
    (run / "checkpoints" / "steps" / "step-00000007").mkdir(parents=True)


def test_a_death_is_told_with_how_to_go_on(tgscale, started, tmp_path, capsys):
    def die():
        raise RunError("trainer 1 was killed, and the run has ended.")

    started.outcome = die
    assert tgscale(*TRAIN, "--workers", "2") == 5
    assert capsys.readouterr().err == "tgscale: trainer 1 was killed, and the run has ended.\n"  # nothing to go on from
    save_a_step(tmp_path / "a")
    assert tgscale(*TRAIN, "--workers", "2") == 5
    go_on = "Go on with: tgscale train --resume a\n"
    assert capsys.readouterr().err == f"tgscale: trainer 1 was killed, and the run has ended. {go_on}"


@pytest.mark.parametrize(("code", "progress", "said"), [(5, True, True), (5, False, False), (2, False, False)])
def test_a_failure_that_was_told_is_not_told_again(tgscale, started, tmp_path, capsys, code, progress, said):
    """A run that broke can go on; one that was refused cannot."""

    def fail():
        if progress:
            save_a_step(tmp_path / "a")
        return code

    started.outcome = fail
    assert tgscale(*TRAIN, "--workers", "2") == code
    assert capsys.readouterr().err == ("tgscale: Go on with: tgscale train --resume a\n" if said else "")


def test_what_all_ranks_find_out_one_of_them_says(tgscale, monkeypatch, tmp_path, capsys):
    for rank in ("0", "1"):
        (tmp_path / "logs" / "attempt_0" / rank).mkdir(parents=True)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "logs" / "attempt_0" / rank / "error.json"))
        assert tgscale("train", "--resume", "nothing") == 5
    assert tgscale("train", "--resume", "nothing else") == 5
    first, second = capsys.readouterr().err.splitlines()
    assert "nothing is not a run directory" in first
    assert "nothing else is not a run directory" in second


def test_notes_of_an_error_are_said_too(tgscale, monkeypatch, capsys):
    def fail(*_, **__):
        error = RunError("it broke")
        error.add_note("(rank 3: because)")
        raise error

    monkeypatch.setattr(train_command, "engine_of", lambda *_: dataclasses.replace(STREAM, train=fail))
    assert tgscale(*TRAIN) == 5
    assert capsys.readouterr().err == "tgscale: it broke\n(rank 3: because)\n"


def test_ctrl_c_is_answered_by_the_first_rank(tgscale, monkeypatch, tmp_path, capsys):
    def interrupted(*_, **__):
        (tmp_path / "a").mkdir(exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command, "engine_of", lambda *_: dataclasses.replace(STREAM, train=interrupted))
    for rank, said in (("0", "\ntgscale: stopped. Go on with: tgscale train --resume a\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert tgscale(*TRAIN) == 130
        assert capsys.readouterr().err == said


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("program", "words", "code", "said"),
    [
        (
            [*TORCHRUN, "--nproc-per-node", "2", "-m", "tgscale"],
            ["--layout", "2x2x1"],
            1,
            "needs 4 trainers, and there are 2",
        ),
        ([*TORCHRUN, "--nproc-per-node", "2", "-m", "tgscale"], ["--emulate", "1x1x2"], 1, "and torchrun started 2"),
        ([*TGSCALE], ["--workers", "2", "--layout", "2x1x1", "--memory-backend", "local"], 2, "2 share one"),
        ([*TGSCALE], ["--workers", "2", "--data", "nowhere"], 4, "nowhere is not a tgscale data directory"),
    ],
)
def test_several_ranks_refuse_with_one_voice(data, tmp_path, program, words, code, said):
    launch = Launch(tmp_path, *program, "train", "--data", data, "--run-dir", "a", *OPTIONS, *words)
    assert launch.end() == code
    assert launch.printed.count(said) == 1
    if program == TGSCALE:  # torchrun has more to say
        assert len(launch.printed.splitlines()) == 1
    assert launch.leaves_nothing()
    assert not (tmp_path / "a").exists()
