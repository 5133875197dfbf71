import io
import sys

import pytest

from tgscale.train import progress
from tgscale.train.progress import Progress


class Clock:
    """Time that passes only when told."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_at_most_every_ten_seconds_and_one_at_the_end(clock, capsys):
    with Progress(1000, "epoch 3/20") as shown:
        for _ in range(10):
            clock.now += 3
            shown.advance(100, loss=0.25)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3/20: 40%, 33 events/s, loss 0.25, 18 s left",
        "epoch 3/20: 80%, 33 events/s, loss 0.25, 6 s left",
        "epoch 3/20: 1,000 events in 30.0 s, 33 events/s, loss 0.25",
    ]


def test_nothing_on_stdout(clock, capsys):
    with Progress(10, "val") as shown:
        clock.now += 60
        shown.advance(10)
    assert capsys.readouterr().out == ""


def test_quiet_prints_nothing(clock, capsys):
    with Progress(10, "val", quiet=True) as shown:
        clock.now += 60
        shown.advance(10)
        assert shown.rate == pytest.approx(10 / 60)
    assert capsys.readouterr() == ("", "")


def test_an_error_ends_it_without_a_closing_line(clock, capsys):
    def fail():
        with Progress(10, "val"):
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress(1000, "epoch 3/20") as shown:
        shown.advance(400, loss=0.25)
        shown.advance(600, loss=0.125)
    text = terminal.getvalue()
    assert "epoch 3/20" in text
    assert "100%" in text
    assert "events/s, loss 0.125" in text
    assert "events in" not in text  # no plain lines between the bars


def test_a_quiet_bar_is_no_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(10, "val", quiet=True) as shown:
        shown.advance(10)
    assert terminal.getvalue() == ""
