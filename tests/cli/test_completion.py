import shutil
import subprocess
import sys

import pytest

from tgscale import cli
from tgscale.cli.completion import leaves_of, options_of, script
from tgscale.errors import ConfigError


@pytest.fixture(scope="module")
def bash():
    return script("bash", cli.COMMANDS)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("tr", ["train"]),
        ("da", ["data"]),
        ("data im", ["import"]),
        ("data generate s", ["snapshots", "stream"]),
        ("train --train.epo", ["--train.epochs"]),
        ("train --data x --wind", ["--window"]),  # of the engine for snapshots
        ("predict runs/a --unknown f", ["fresh"]),
        ("predict --after ''", ["val", "test"]),
        ("nonsense x", []),
    ],
)
def test_bash_completes(bash, tmp_path, typed, expected):
    words = f"COMP_WORDS=(tgscale {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))"
    done = subprocess.run(
        ["bash", "-c", f'{bash}\n{words}; _tgscale; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stderr == ""
    assert done.stdout.split() == expected


def test_fish_and_zsh_know_the_same():
    fish, zsh = script("fish", cli.COMMANDS), script("zsh", cli.COMMANDS)
    for name, command in leaves_of(cli.COMMANDS).items():
        assert name.split()[-1] in fish
        for option in options_of(command).of:
            assert f"-l {option.removeprefix('--')}" in fish
            assert option in zsh
    assert zsh.startswith("#compdef tgscale\n")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")
def test_zsh_reads_it(tmp_path):
    (tmp_path / "c.zsh").write_text(script("zsh", cli.COMMANDS))
    subprocess.run(["zsh", "-fc", f"autoload -U compinit; compinit -D; source {tmp_path}/c.zsh"], check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish on this machine")
def test_fish_reads_it(tmp_path):
    (tmp_path / "c.fish").write_text(script("fish", cli.COMMANDS))
    subprocess.run(["fish", "--no-config", f"{tmp_path}/c.fish"], check=True)


def test_another_shell_is_refused(monkeypatch, capsys):
    with pytest.raises(ConfigError, match="choose one of bash, zsh, fish"):
        script("csh", cli.COMMANDS)
    monkeypatch.setattr(sys, "argv", ["tgscale", "--print-completion", "csh"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2


def test_the_overview_is_grouped(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tgscale", "--help"])
    cli.main()
    printed = capsys.readouterr().out
    for word in ("data:", "training:", "results:", "--print-completion SHELL", *cli.COMMANDS):
        assert word in printed
    assert max(map(len, printed.splitlines())) <= 120
