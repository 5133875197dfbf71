"""Each mistake on the page of errors is made as it stands there, and is answered in the words that stand there."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from itertools import pairwise

import pytest
import torch

from tgscale import cli

from .desk import Desk, Shelf, environment
from .pages import DOCS, ROOT, blocks_of

PAGE = DOCS / "troubleshooting.md"
BLOCKS = blocks_of(PAGE)
ENTRIES = [pair for pair in pairwise(BLOCKS) if pair[0].language == "bash" and not pair[0].reason]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


def spaced(text):
    return " ".join(text.split())


def pattern_of(quote):
    """A regular expression for a quoted message, in which ``...`` stands for anything, and spaces for any space."""
    return ".*?".join(re.escape(spaced(part)).replace(r"\ ", r"\s+") for part in quote.split("..."))


def run_tgscale(command, monkeypatch):
    """Run one ``tgscale`` command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", shlex.split(command, comments=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0
    return 0


@pytest.mark.parametrize(("mistake", "answer"), ENTRIES, ids=[str(mistake.line) for mistake, _ in ENTRIES])
def test_a_mistake_is_answered_in_these_words(mistake, answer, shelf, tmp_path, monkeypatch, capfd):
    if "--device cuda" in mistake.code and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "output" in answer.says, f"{answer.place}: a mistake is followed by its `output`"
    desk = Desk(tmp_path / "desk", shelf)
    for name in mistake.given:
        shelf.give(desk.folder, name)
    *before, last = mistake.script.strip().splitlines()
    preparation = subprocess.Popen(
        ["bash", "-ec", "\n".join(before)],
        cwd=desk.folder,
        env=environment(desk.folder),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert preparation.wait() == 0
        monkeypatch.chdir(desk.folder)
        capfd.readouterr()
        code = run_tgscale(last, monkeypatch)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(preparation.pid, signal.SIGKILL)  # what it has left in the background
        desk.close()
    printed = capfd.readouterr().err
    assert code == int(mistake.says["exits with"]), printed
    assert re.search(pattern_of(answer.code), spaced(printed), re.S), (
        f"{answer.place} is not what is printed:\n{printed}"
    )


def test_what_several_processes_say_is_said_by_the_code():
    code = " ".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # strings that go on in the next line
    table = PAGE.read_text().partition("## Several processes")[2].partition("\n## ")[0]
    quotes = [quote for quote in re.findall(r"^\| `(.*?)` \|", table, re.M) if "ambiguous option" not in quote]
    assert len(quotes) >= 4
    for quote in quotes:
        for part in re.split(r"\.\.\.|\d+|runs/a", quote):
            assert part.strip() in code, part


def test_many_mistakes_are_there():
    assert len(ENTRIES) >= 40


def test_a_quote_is_compared_word_by_word():
    assert re.search(pattern_of("tgscale: a is\n  3: ...give 4."), "tgscale: a is 3: no, give 4. And")
    assert not re.search(pattern_of("tgscale: a is 3"), "tgscale: a is 4")
