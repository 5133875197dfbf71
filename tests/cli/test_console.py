"""What is printed: names as they are, and an end without words where nobody reads."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from tgscale.cli import table
from tgscale.cli.console import Output
from tgscale.data.generate import generate_stream
from tgscale.data.store import save_stream


def test_brackets_in_names_are_printed(capsys):
    shown = Table("[/b]", title="[lr=0.1]")
    shown.add_row("a[b]c")
    Output().print(shown)
    table._print_files(Output(soft_wrap=True), Path("runs/[lr=0.1]/[/b]"), profiled=False)
    printed = capsys.readouterr().out
    for words in ("[lr=0.1]", "[/b]", "a[b]c", "runs/[lr=0.1]/[/b]/result.json"):
        assert words in printed


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_pipe_that_nobody_reads_is_no_error(tmp_path, options):
    save_stream(generate_stream(events=200, nodes=30), tmp_path / "data")
    words = [sys.executable, "-m", "tgscale", "data", "info", str(tmp_path / "data"), *options]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    command.stdout.close()
    assert command.wait() == 0
    assert command.stderr.read() == ""
