"""Completion of commands, options and their choices, for bash, zsh and fish: read off what every ``--help`` prints."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Template

from tgscale.cli.dispatch import Command
from tgscale.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")
OPTION = re.compile(r"(?<![\w`'])(--[a-z][\w.-]*)(?: (\{[^}\s]+\}))?")


@dataclass
class Options:
    """Options of a command: name -> its choices, none where anything may follow."""

    of: dict[str, list[str]] = field(default_factory=dict)


def script(shell: str, commands: Mapping[str, Command]) -> str:
    """The completion script of a shell.

    Args:
        shell: one of :data:`SHELLS`.
        commands: all commands.

    Raises:
        ConfigError: an unknown shell.
    """
    if shell not in SHELLS:
        raise ConfigError(f"--print-completion {shell!r} is unknown: choose one of {', '.join(SHELLS)}.")
    leaves = {name: options_of(command) for name, command in leaves_of(commands).items()}
    return _fish(leaves, commands) if shell == "fish" else _bash(leaves, zsh=shell == "zsh")


def leaves_of(commands: Mapping[str, Command]) -> dict[str, Command]:
    """All commands that do something, by all their words."""
    found: dict[str, Command] = {}
    for name, command in commands.items():
        if command.parts is None:
            found[name] = command
        else:
            found |= {f"{name} {rest}": leaf for rest, leaf in leaves_of(command.parts()).items()}
    return found


def options_of(command: Command) -> Options:
    """The options that a command's help names where options stand: at the start of a line, in a box or not."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command.run(["--help"])
    options = Options()
    for line in re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).splitlines():
        if re.match(r"[│|\s]{0,4}(-h, )?--", line):
            for name, choices in OPTION.findall(line):
                options.of[name] = [word for word in choices.strip("{}").split(",") if word and word != "None"]
    return options


_BASH = Template("""\
$first
_tgscale() {
    local cur=$${COMP_WORDS[COMP_CWORD]} prev=$${COMP_WORDS[COMP_CWORD-1]} typed="" word commands
    for word in "$${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $$word == -* ]] && break
        typed+="$$word "
    done
    COMPREPLY=()
    case "$$typed$$prev" in
$choices
    esac
    case "$$typed" in
$options
        *) commands=$all
           COMPREPLY=($$(printf '%s\\n' "$${commands[@]}" | sed -n "s|^$$typed||p" | cut -d' ' -f1 | sort -u))
           COMPREPLY=($$(compgen -W "$${COMPREPLY[*]}" -- "$$cur")); return ;;
    esac
    [[ $$cur == -* ]] || COMPREPLY=($$(compgen -f -- "$$cur"))
}
complete -o filenames -F _tgscale tgscale
""")


def _bash(leaves: dict[str, Options], zsh: bool) -> str:
    choices, options = [], []
    for name, found in leaves.items():
        # The first words that are no options: the command, and then what it is given.
        for option, words in found.of.items():
            if words:
                reply = f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$cur")); return'
                choices.append(f'        "{name} "*{option}) {reply} ;;')
        reply = f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(found.of))} -- "$cur"))'
        options.append(f'        "{name} "*) {reply} ;;')
    first = '# tgscale: completion for bash. eval "$(tgscale --print-completion bash)"'
    if zsh:
        first = "#compdef tgscale\nautoload -U +X bashcompinit && bashcompinit"
    every = "(" + " ".join(shlex.quote(f"{name} ") for name in leaves) + ")"
    return _BASH.substitute(first=first, choices="\n".join(choices), options="\n".join(options), all=every)


def _fish(leaves: dict[str, Options], commands: Mapping[str, Command]) -> str:
    lines = ["# tgscale: completion for fish. tgscale --print-completion fish | source"]
    for name, command in commands.items():
        about = shlex.quote(command.about)
        lines.append(f"complete -c tgscale -n __fish_use_subcommand -f -a {name} -d {about}")
    for name, found in leaves.items():
        head, *rest = name.split()
        for i, word in enumerate(rest):
            seen = " ; and ".join(f"__fish_seen_subcommand_from {each}" for each in (head, *rest[:i]))
            lines.append(f"complete -c tgscale -n '{seen}' -f -a {word}")
        seen = " ; and ".join(f"__fish_seen_subcommand_from {each}" for each in (head, *rest))
        for option, words in found.of.items():
            what = f" -x -a {shlex.quote(' '.join(words))}" if words else ""
            lines.append(f"complete -c tgscale -n '{seen}' -l {option.removeprefix('--')}{what}")
    return "\n".join(dict.fromkeys(lines)) + "\n"
