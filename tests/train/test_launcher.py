import logging
from types import SimpleNamespace

import pytest

from tgscale.train import launcher
from tgscale.train.launcher import _Deaths, _root_cause


def failures(codes):
    return {rank: SimpleNamespace(exitcode=code, pid=1000 + rank) for rank, code in codes.items()}


@pytest.mark.parametrize(
    ("codes", "code", "what"),
    [
        ({0: 5, 1: -9}, -9, "trainer 1 (process 1001) was killed by SIGKILL"),  # rank 0 lost its connection to it
        ({0: -15, 1: -9, 2: -15}, -9, "trainer 1 (process 1001) was killed by SIGKILL"),  # the others were stopped
        ({0: -15, 2: -11}, -11, "trainer 2 (process 1002) was killed by SIGSEGV"),
        ({0: -15, 1: 2}, 2, None),  # it has said why
        ({0: 143, 1: 2}, 2, None),
        ({0: 4, 1: 4}, 4, None),
        ({1: -15}, -15, "trainer 1 (process 1001) was killed by SIGTERM"),
    ],
)
def test_the_one_that_failed_first_is_found(codes, code, what):
    assert _root_cause(failures(codes)) == (code, what)


def record(level, message, *args):
    return logging.LogRecord(launcher.WATCH, level, __file__, 1, message, args, None)


FAILED = "failed (exitcode: %s) local_rank: %s (pid: %s) of binary: %s"


def test_a_death_is_told_when_all_start_again_and_else_left_to_the_end(capsys):
    deaths = _Deaths(max_restarts=2)
    assert not deaths.filter(record(logging.WARNING, "Sending process %s closing signal %s", 7, "SIGTERM"))
    assert capsys.readouterr().err == ""
    assert not deaths.filter(record(logging.ERROR, FAILED, -9, 1, 77, "python"))
    expected = "tgscale: trainer 1 (process 77) was killed by SIGKILL: all trainers start again (restart 1 of 2).\n"
    assert capsys.readouterr().err == expected
    assert not deaths.filter(record(logging.ERROR, FAILED, 5, 0, 76, "python"))
    assert capsys.readouterr().err == "tgscale: trainer 0 has failed: all trainers start again (restart 2 of 2).\n"
    assert not deaths.filter(record(logging.ERROR, FAILED, -9, 0, 78, "python"))
    assert capsys.readouterr().err == ""


def test_what_is_not_understood_is_shown_as_it_is():
    assert _Deaths(0).filter(record(logging.ERROR, "the machine is on fire"))
    assert _Deaths(0).filter(record(logging.ERROR, "failed (exitcode) in another way"))
