import os
import signal
import threading

import pytest

from tgscale.errors import LostPeerError
from tgscale.train.interrupt import Interrupt, Stopped


def ctrl_c(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_noted_and_obeyed_later(number, capsys):
    interrupt, before = Interrupt(alone=True), signal.getsignal(number)
    with interrupt.deferred():
        interrupt.obey()  # nobody has asked
        assert not interrupt.asked
        ctrl_c(number)
        assert interrupt.asked
        with pytest.raises(Stopped) as caught:
            interrupt.obey()
    assert caught.value.signal == number
    assert signal.getsignal(number) is before
    assert "once more stops at once" in capsys.readouterr().err


def test_the_second_one_stops_at_once():
    interrupt = Interrupt(alone=True)
    with interrupt.deferred():
        ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


def test_several_processes_stop_when_all_have_heard(capsys):
    interrupt = Interrupt(alone=False, first=False)
    with interrupt.deferred():
        ctrl_c(signal.SIGTERM)
        assert interrupt.noted
        interrupt.obey()  # the others do not know yet
        interrupt.hear(False)
        assert not interrupt.asked
        interrupt.hear(True)
        interrupt.hear(False)  # of a later step
        assert interrupt.asked
        with pytest.raises(Stopped) as caught:
            interrupt.obey()
    assert caught.value.signal == signal.SIGTERM
    assert not capsys.readouterr().err  # one of them speaks


def test_who_was_not_asked_stops_with_the_others():
    interrupt = Interrupt(alone=False)
    interrupt.hear(True)
    with pytest.raises(Stopped):
        interrupt.obey()


def lose_peer_after(number):
    ctrl_c(number)
    raise LostPeerError


def test_who_was_asked_is_not_lost_when_another_stops_sooner():
    interrupt, before = Interrupt(alone=False), signal.getsignal(signal.SIGINT)
    with pytest.raises(LostPeerError), interrupt.deferred():
        raise LostPeerError  # nobody has asked: it died
    with pytest.raises(Stopped) as caught, interrupt.deferred():
        lose_peer_after(signal.SIGINT)
    assert caught.value.signal == signal.SIGINT
    with pytest.raises(SystemExit, match="143"), Interrupt(alone=False).deferred():
        lose_peer_after(signal.SIGTERM)  # of torchrun, which has found the other dead
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_signals_as_they_are():
    failed = []

    def elsewhere():
        try:
            with Interrupt(alone=True).deferred():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not failed
