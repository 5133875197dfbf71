import os
import signal
import threading

import pytest

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


def test_several_processes_and_other_threads_are_left_as_they_are():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt(alone=False).deferred():
        assert signal.getsignal(signal.SIGINT) is before
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
