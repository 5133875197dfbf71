import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
import yaml

from tgscale.errors import ConfigError
from tgscale.train.config_io import from_dict, parse, read_yaml, to_dict


@dataclass
class Inner:
    window: int | None = None
    flag: bool = True
    other_flag: bool | None = None
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 0.5)


@dataclass
class Model:
    dim: int = 100
    """Width."""
    kind: Literal["gru", "rnn"] = "gru"
    rate: float = 1e-3
    name: str = "x"
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ConfigError(f"model.dim is {self.dim}: give 1 or more.")


@dataclass
class Config:
    data: Path
    run: Path
    quiet: bool = False
    model: Model = field(default_factory=Model)


REQUIRED = ["--data", "d", "--run", "r"]
PRESET = Config(tyro.MISSING, tyro.MISSING, model=Model(dim=7, inner=Inner(flag=False)))


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def test_dict_and_back():
    config = Config(
        Path("d"),
        Path("r/s"),
        quiet=True,
        model=Model(3, "rnn", math.inf, "-x y", Inner(window=5, flag=False, other_flag=True, sizes=(), pair=(3, 1.5))),
    )
    values = to_dict(config)
    assert values["data"] == "d"
    assert values["model"]["inner"] == {
        "window": 5,
        "flag": False,
        "other_flag": True,
        "sizes": [],
        "pair": [3, 1.5],
    }
    assert from_dict(Config, yaml.safe_load(yaml.safe_dump(values))) == config
    assert from_dict(Config, to_dict(Config(Path("d"), Path("r")))) == Config(Path("d"), Path("r"))


def test_what_is_left_out_keeps_its_default():
    assert from_dict(Config, {"data": "d", "run": "r", "model": {"dim": 3}}).model == Model(dim=3)


def test_preset_then_file_then_flags(file):
    path = file("""
        data: from-file
        run: from-file
        quiet: true
        model:
          rate: 1e-2
          kind: rnn
          inner: {window: 3, sizes: [4, 5, 6]}
    """)
    argv = ["--run", "r", "--no-quiet", "--model.kind", "gru", "--model.inner.sizes", "8"]
    config = parse(Config, argv, default=PRESET, yaml_path=path)
    inner = Inner(window=3, flag=False, sizes=(8,))
    assert config == Config(Path("from-file"), Path("r"), False, Model(7, "gru", 0.01, inner=inner))


def test_every_kind_of_value_in_a_file(file):
    path = file("""
        model:
          name: '3'
          inner: {window: null, flag: true, other-flag: false, sizes: [], pair: [2, 3]}
    """)
    config = parse(Config, REQUIRED, default=PRESET, yaml_path=path)
    assert config.model == Model(dim=7, name="3", inner=Inner(None, True, False, (), (2, 3.0)))


def test_a_bool_without_a_default(file):
    @dataclass
    class Strict:
        sure: bool

    for value in (True, False):
        assert from_dict(Strict, {"sure": value}) == Strict(value)
        assert parse(Strict, [], yaml_path=file(f"sure: {value}")) == Strict(value)


def test_dashes_and_underscores_are_the_same(file):
    for key in ("other-flag", "other_flag"):
        path = file(f"model: {{inner: {{{key}: true}}}}")
        assert parse(Config, REQUIRED, yaml_path=path).model.inner.other_flag is True
        assert parse(Config, [*REQUIRED, f"--model.inner.{key}", "True"]).model.inner.other_flag is True


def test_empty_files_and_sections_change_nothing(file):
    for text in ("", "# nothing\n", "model:\n", "model:\n  inner:\n"):
        assert parse(Config, REQUIRED, default=PRESET, yaml_path=file(text)).model == PRESET.model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell: {dim: 3}", r"config\.yaml: option modell is unknown\. Did you mean model\?"),
        ("model: {dimm: 3}", r"option model\.dimm is unknown\. Did you mean model\.dim\?"),
        ("model: {inner: {xyz: 3}}", r"option model\.inner\.xyz is unknown\. There are: window, flag"),
        ("model.dim: 3", r"option model\.dim is unknown\. Nest it: `model: \{dim: 3\}`"),
        ("model.inner.flag: true", r"Nest it: `model: \{inner: \{flag: True\}\}`"),
        ("model: {inner.flag: 1}", r"option model\.inner\.flag is unknown\. Nest it: `inner: \{flag: 1\}`"),
        ("1: 2", r"option 1 is unknown"),
        ("model: {dim: 1.5}", r"config\.yaml: model\.dim is 1\.5\. .*'1\.5' is no whole number"),
        ("model: {kind: lstm}", r"model\.kind is 'lstm'\. invalid choice .* Expected one of \('gru', 'rnn'\)"),
        ("model: {rate: fast}", r"model\.rate is 'fast'\. .*'fast' is no number"),
        ("model: {dim: null}", r"model\.dim is None\."),
        ("model: {dim: [1, 2]}", r"model\.dim is \[1, 2\]\."),
        ("model: {inner: {pair: [1]}}", r"model\.inner\.pair is \[1\]\."),
        ("quiet: maybe", r"quiet is 'maybe'\. .* Expected one of \('True', 'False'\)"),
        ("model: 3", r"model is a section of options, but 3 was given"),
        ("quiet: {a: 1}", r"quiet is one option, but a section was given"),
        ("- a", r"holds list: write a mapping"),
        ("a: [", r"not valid YAML: .*line 1"),
        ("quiet: true\nquiet: false", r"key 'quiet' stands twice.*line 2"),
        ("model:\n  dim: 1\n  dim: 1", r"key 'dim' stands twice.*line 3"),
    ],
)
def test_mistakes_in_a_file_are_named_with_file_and_key(file, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(Config, REQUIRED, default=PRESET, yaml_path=file(text))
    assert "config.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model.dimm", "3"], r"(?s)Unrecognized options: --model\.dimm, 3.*Perhaps you meant:.*--model\.dim INT"),
        (["--model.kind", "lstm"], r"invalid choice 'lstm' for argument '--model\.kind'.*'gru', 'rnn'"),
        (["--model.dim", "1.5"], r"Error parsing --model\.dim: '1\.5' is no whole number"),
        (["stray"], r"stray"),
    ],
)
def test_mistakes_on_the_command_line(file, argv, message, capsys):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(Config, [*REQUIRED, *argv], default=PRESET, yaml_path=file("model: {dim: 3}"))
    assert "config.yaml" not in str(caught.value)
    assert not set("│─╭╰") & set(str(caught.value))
    assert capsys.readouterr() == ("", "")


def test_an_option_of_several_values_that_is_given_twice_is_refused():
    @dataclass
    class Several:
        events: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--new-events"])] = ()

    assert parse(Several, ["--events", "a", "b"]).events == ("a", "b")
    for again in ("--events", "--new-events", "--new_events"):
        with pytest.raises(ConfigError, match=r"^--events is given twice: give its values after one --events\.$"):
            parse(Several, ["--events", "a", again, "b"])


def test_of_options_of_one_value_the_last_one_counts():
    """So that a script's options can be overruled."""
    assert parse(Config, [*REQUIRED, "--model.dim", "3", "--model.dim=4"], default=PRESET).model.dim == 4


def test_a_flag_may_repeat_what_the_file_says(file):
    assert parse(Config, [*REQUIRED, "--model.dim", "4"], yaml_path=file("model: {dim: 3}")).model.dim == 4


@pytest.mark.parametrize("terminal", [False, True])
def test_messages_are_plain_on_a_terminal_too(monkeypatch, terminal):
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("tyro._fmtlib._FORCE_UTF8_BOXES", terminal)
    with pytest.raises(ConfigError) as caught:
        parse(Config, [*REQUIRED, "--model.kind", "lstm"], default=PRESET, prog="tgscale train")
    assert str(caught.value) == (
        "invalid choice 'lstm' for argument '--model.kind'. Expected one of ('gru', 'rnn').\n"
        "For full helptext, run tgscale train --help"
    )


def test_a_missing_option_is_named(file):
    with pytest.raises(ConfigError, match="--run"):
        parse(Config, ["--data", "d"], default=PRESET, yaml_path=file("quiet: true"))


def test_a_check_of_the_dataclass_comes_through(file):
    with pytest.raises(ConfigError, match=r"^model\.dim is 0: give 1 or more\.$"):
        parse(Config, REQUIRED, yaml_path=file("model: {dim: 0}"))


def test_an_unreadable_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_yaml(tmp_path / "latin.yaml")


def test_from_dict_names_its_source():
    values = to_dict(Config(Path("d"), Path("r")))
    values["model"]["depth"] = 3
    with pytest.raises(ConfigError, match=r"runs/a/config\.yaml: option model\.depth is unknown"):
        from_dict(Config, values, "runs/a/config.yaml")


def test_help_prints_all_options_and_exits(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(Config, ["--help"], default=PRESET, prog="tgscale train")
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "tgscale train" in printed
    assert "--model.inner.window" in printed


def test_the_preset_is_not_altered():
    before = dataclasses.replace(PRESET)
    parse(Config, [*REQUIRED, "--model.dim", "3"], default=PRESET)
    assert before == PRESET
    assert PRESET.model.dim == 7
