"""Configurations: dataclass, plain dict, YAML file and command line, all checked by tyro, in one place.

A mapping is turned into command-line flags (``{"train": {"lr": 0.1}}`` is ``--train.lr=0.1``), so a value from a file
is held to the same rules as one that was typed, and what comes later on the line wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

import tyro
import yaml

from tgscale.errors import ConfigError
from tgscale.train.option_words import reworded, unboxed
from tgscale.train.options import nearest

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as nested plain values: paths become strings, tuples become lists. See :func:`from_dict`."""
    return dataclasses.asdict(config, dict_factory=lambda items: {name: _plain(value) for name, value in items})


def from_dict(config_type: type[Config], values: dict[str, Any], source: str = "configuration") -> Config:
    """The dataclass that :func:`to_dict` was given.

    Args:
        config_type: a dataclass.
        values: nested plain values. What is left out keeps its default.
        source: where the values come from, for messages.

    Raises:
        ConfigError: an unknown name, or a value that does not fit; the message gives the nearest right name.
    """
    return _parse(config_type, None, _options(config_type, values, source), [], source, None)


def parse(
    config_type: type[Config],
    argv: Sequence[str],
    *,
    default: Config | None = None,
    yaml_path: Path | str | None = None,
    prog: str | None = None,
) -> Config:
    """A configuration from a preset, a YAML file and a command line; each overrides the one before it.

    Args:
        config_type: a dataclass; its fields may be dataclasses again.
        argv: flags such as ``--train.lr 0.001``. ``--help`` prints all of them and exits.
        default: the preset; fields that are ``tyro.MISSING`` must be given by file or flag.
        yaml_path: a file that holds a mapping with the same names.
        prog: name of the command, for ``--help``.

    Raises:
        ConfigError: an unknown name, a value that does not fit, one that is missing, or an option of several values
            that is given twice. The message gives the nearest right name, and file and key when the mistake is there.
    """
    values = {} if yaml_path is None else read_yaml(yaml_path)
    options = _options(config_type, values, str(yaml_path))
    config = _parse(config_type, default, options, argv, str(yaml_path), prog)
    _refuse_repeated(config_type, argv)
    return config


def read_yaml(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, or a key that stands twice.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, Loader=_UniqueKeyLoader)
    except OSError as error:
        raise ConfigError(f"config file {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict | None):
        raise ConfigError(
            f"{path} holds {type(values).__name__}: write a mapping of options, as `train: {{lr: 0.001}}`."
        )
    return values or {}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML's own rule, which PyYAML does not hold to."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Option(typing.NamedTuple):
    """One option of a mapping."""

    key: str  # with the sections it lies in, such as "train.lr"
    kind: Any
    is_switch: bool  # tyro writes a bool that has a default as --x or --no-x, and one that has none as --x=True
    value: Any

    def flags(self) -> list[str]:
        """Its command-line form."""
        if self.is_switch and isinstance(self.value, bool):
            section, dot, name = self.key.rpartition(".")
            return [f"--{section}{dot}{'' if self.value else 'no-'}{name}"]
        if isinstance(self.value, list | tuple):
            return [f"--{self.key}", *map(str, self.value)]
        return [f"--{self.key}={self.value}"]

    def check(self) -> None:
        """Refuse a value that does not fit, whatever the other options are."""
        alone = self._replace(key=self.key.rpartition(".")[2], is_switch=False)
        _tyro(dataclasses.make_dataclass("Option", [(alone.key, self.kind)]), None, alone.flags(), None)


def _options(config_type: Any, values: dict[str, Any], source: str, prefix: str = "") -> list[_Option]:
    """The options of a nested mapping."""
    types = typing.get_type_hints(config_type, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(config_type)}
    options: list[_Option] = []
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in fields and name.partition(".")[0] in fields:
            raise ConfigError(f"{source}: option {prefix}{key} is unknown. Nest it: `{_nested(str(key), value)}`.")
        if name not in fields:
            raise ConfigError(f"{source}: option {prefix}{key} is unknown. {nearest(name, list(fields), prefix)}")
        if dataclasses.is_dataclass(types[name]):
            if isinstance(value, str) and any(field.name == "name" for field in dataclasses.fields(types[name])):
                value = {"name": value}  # `model: jodie` for `model: {name: jodie}`
            if not isinstance(value, dict | None):
                raise ConfigError(f"{source}: {prefix}{name} is a section of options, but {value!r} was given.")
            options += _options(types[name], value or {}, source, f"{prefix}{name}.")
        elif isinstance(value, dict):
            raise ConfigError(f"{source}: {prefix}{name} is one option, but a section was given: {value!r}.")
        else:
            is_switch = types[name] is bool and fields[name].default is not dataclasses.MISSING
            options.append(_Option(f"{prefix}{name}", types[name], is_switch, value))
    return options


def _parse(
    config_type: type[Config],
    default: Config | None,
    options: list[_Option],
    argv: Sequence[str],
    source: str,
    prog: str | None,
) -> Config:
    flags = [word for option in options for word in option.flags()]
    try:
        return _tyro(config_type, default, [*flags, *argv], prog)
    except ConfigError:
        for option in options:  # is it the file's fault? then say so, and where
            try:
                option.check()
            except ConfigError as error:
                reason = str(error).splitlines()[0]  # the rest is help for a command line
                raise ConfigError(f"{source}: {option.key} is {option.value!r}. {reason}") from None
        raise


def _tyro(config_type: type[Config], default: Config | None, args: list[str], prog: str | None) -> Config:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                config_type, args=args, prog=prog, default=tyro.MISSING_NONPROP if default is None else default
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        raise ConfigError(reworded(unboxed(printed.getvalue()), prog)) from None


def _refuse_repeated(config_type: Any, argv: Sequence[str]) -> None:
    """Refuse an option of several values that a command line gives twice: the first values would be lost, in silence.

    Of an option of one value the last one counts, as everywhere: so a script's options can be overruled.

    Raises:
        ConfigError: names the option.
    """
    known = dict(_flags(config_type))
    given: set[str] = set()
    for word in argv:
        name, kind = known.get(word.partition("=")[0].replace("_", "-"), (word, None))
        if typing.get_origin(kind) not in (tuple, list):
            continue
        if name in given:
            raise ConfigError(f"{name} is given twice: give its values after one {name}.")
        given.add(name)


def _flags(config_type: Any, prefix: str = "") -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each flag of a dataclass, as it may be typed, with its first name and the type of its value."""
    for name, kind in typing.get_type_hints(config_type, include_extras=True).items():
        plain, *extras = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
        if dataclasses.is_dataclass(plain):
            yield from _flags(plain, f"{prefix}{name}.")
            continue
        section, dashed = prefix.replace("_", "-"), name.replace("_", "-")
        first = f"--{section}{dashed}"
        aliases = [alias for extra in extras for alias in getattr(extra, "aliases", None) or ()]
        for flag in (first, f"--{section}no-{dashed}", *aliases):
            yield flag, (first, plain)


def _nested(key: str, value: Any) -> str:
    """A dotted key as YAML wants it: ``train: {epochs: 1}``."""
    section, dot, rest = key.partition(".")
    return f"{section}: {{{_nested(rest, value)}}}" if dot else f"{section}: {value}"


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
