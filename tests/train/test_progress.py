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


def test_passing_progress_leaves_nothing_behind(clock, capsys):
    with Progress(10, "val", passing=True) as shown:
        clock.now += 20
        shown.advance(5)
        shown.advance(5)
    assert capsys.readouterr().err.splitlines() == ["val: 50%, 0 events/s, 20 s left"]


def test_a_quiet_bar_is_no_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(10, "val", quiet=True) as shown:
        shown.advance(10)
    assert terminal.getvalue() == ""


def test_the_rate_tells_once_how_long_all_passes_take(clock, capsys):
    with Progress(1000, "epoch 1/5", later=4000) as shown:
        for _ in range(5):
            clock.now += 2
            shown.advance(100)
    lines = [line for line in capsys.readouterr().err.splitlines() if "training takes" in line]
    # 200 of 5000 are done after 4 s: 4800 at 50 a second are 96 s.
    assert lines == ["training takes about 2 min more at this rate (50 events/s), without what validation takes"]


def test_no_bar_and_no_carriage_return_where_there_is_no_terminal(clock, capsys):
    with Progress(10, "val") as shown:
        clock.now += 60
        shown.advance(5)
    printed = capsys.readouterr().err
    assert "\r" not in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min"), (187_200, "2 days 4 h")],
)
def test_durations(seconds, words):
    assert progress.duration(seconds) == words
