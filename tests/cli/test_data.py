import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from tgscale import cli
from tgscale.cli import data
from tgscale.data.formats import FORMATS
from tgscale.data.generate import generate_stream
from tgscale.data.store import open_stream
from tgscale.errors import ConfigError, DataError, StoreError

CSV = "u,i,ts,f1,f2\n1,2,30,0.5,1\n2,3,10,1,1\n4,5,20,1,2\n"


@pytest.fixture
def csv(tmp_path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text(CSV)
    return path


def columns(path: Path, *more: str) -> list[str]:
    return ["import", str(path), "--src", "u", "--dst", "i", "--time", "ts", *more]


def test_generate(tmp_path, capsys):
    out = tmp_path / "demo"
    options = ["--events", "500", "--nodes", "100", "--edge-features", "3", "--seed", "7", "--no-bipartite"]
    data.main(["generate", "stream", "--out", str(out), *options])
    stream, expected = open_stream(out, verify=True), generate_stream(500, 100, 3, 7, bipartite=False)
    assert np.array_equal(stream.src, expected.src)
    assert np.array_equal(stream.edge_features, expected.edge_features)
    assert stream.num_sources is None
    assert capsys.readouterr().out == f"{out}: 500 events, 100 nodes, 3 edge features\n"


def test_generate_refuses_a_target_that_exists_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "meta.json").write_text("{}")
    monkeypatch.setattr(data, "generate_stream", None)
    with pytest.raises(StoreError, match="already exists"):
        data.main(["generate", "stream", "--out", str(tmp_path)])


def test_generate_again_with_overwrite(tmp_path):
    for events in (100, 200):
        data.main(
            ["generate", "stream", "--out", str(tmp_path / "a"), f"--events={events}", "--nodes=100", "--overwrite"]
        )
    assert open_stream(tmp_path / "a").num_events == 200


def test_import(csv, tmp_path, capsys):
    out = tmp_path / "store"
    data.main(columns(csv, "--edge-features", "f*", "--out", str(out)))
    assert open_stream(out).time.tolist() == [10, 20, 30]
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].startswith("read as csv")
    assert lines[0].endswith("src from 'u', dst from 'i', time from 'ts'")
    assert lines[1] == "3 events, 5 nodes, 2 edge features, times 10 to 30 s"
    assert lines[-1].startswith(f"{out}: ")
    assert "sorting ..." in printed.err.splitlines()


def test_import_takes_the_options_of_the_reader(csv, tmp_path, capsys):
    out = tmp_path / "store"
    more = ["--edge_features", "f1", "--bipartite", "--format", "csv", "--time-unit", "ms", "--name", "mine", "--quiet"]
    data.main(columns(csv, "--out", str(out), *more))
    stream = open_stream(out)
    assert stream.num_sources == 3
    assert (stream.name, stream.time_unit, stream.edge_dim) == ("mine", "ms", 1)
    assert stream.time.tolist() == [10_000, 20_000, 30_000]
    printed = capsys.readouterr()
    assert "6 nodes (3 of them sources)" in printed.out
    assert printed.err == ""


def test_import_drops_and_says_so(csv, tmp_path, capsys):
    csv.write_text(CSV + "7,8,soon,1,1\n")
    with pytest.raises(DataError, match=r"events\.csv, row 4, column 'ts'"):
        data.main(columns(csv, "--out", str(tmp_path / "a")))
    data.main(columns(csv, "--out", str(tmp_path / "a"), "--on-error", "drop"))
    printed = capsys.readouterr().out
    assert "left out 1 row for its time, such as:\n  " in printed
    assert "'soon' is neither a number nor a date" in printed


def test_import_says_what_was_left_in_the_source(tmp_path, capsys):
    (tmp_path / "e.csv").write_text("src,dst,time,label,amount\n1,2,3,fees,0.5\n2,1,4,rent,1\n")
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "a")])
    options = "(--edge-features takes numbers, --edge-classes takes names)"
    assert f"\nnot imported: label, amount {options}\n" in capsys.readouterr().out
    all_of_it = ["--edge-features", "amount", "--edge-classes", "label", "--overwrite"]
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "a"), *all_of_it])
    assert "not imported" not in capsys.readouterr().out
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "b"), "--every", "1d"])
    assert "\nnot imported: label, amount (snapshots take" in capsys.readouterr().out


def test_labels_that_were_not_wanted_are_not_missed(tmp_path, capsys):
    (tmp_path / "e.csv").write_text("src,dst,time,label\n1,2,3,1\n2,1,4,0\n")
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "a"), "--label", ""])
    assert "not imported" not in capsys.readouterr().out


def test_import_gives_the_dates_of_its_times(tmp_path, capsys):
    (tmp_path / "e.csv").write_text("src,dst,time\n1,2,1704067200\n2,1,1704067260\n")
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "a")])
    assert "s (2024-01-01 00:00:00 to 2024-01-01 00:01:00 UTC)\n" in capsys.readouterr().out


def test_one_of_a_thing_is_not_several(tmp_path, capsys):
    (tmp_path / "e.csv").write_text("src,dst,time,f\n0,0,3,1\n")
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "a"), "--edge-features", "f"])
    assert "\n1 event, 1 node, 1 edge feature, times 3 to 3 s\n" in capsys.readouterr().out


def test_import_of_several_files_and_of_a_query(csv, tmp_path):
    second = tmp_path / "more.csv"
    second.write_text(CSV)
    data.main(["import", str(csv), str(second), "--out", str(tmp_path / "a"), "--src=u", "--dst=i", "--time=ts"])
    assert open_stream(tmp_path / "a").num_events == 6
    query = f"SELECT u AS src, i AS dst, ts AS time FROM '{csv}' WHERE ts < 30"
    data.main(["import", "--out", str(tmp_path / "b"), "--query", query])
    assert open_stream(tmp_path / "b").num_events == 2


def test_import_without_a_source_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        data.main(["import", "--out", str(tmp_path / "a")])
    assert not (tmp_path / "a").exists()


def test_info(csv, tmp_path, capsys):
    data.main(["generate", "stream", "--out", str(tmp_path / "a"), "--events", "500", "--nodes", "100"])
    capsys.readouterr()
    data.main(["info", str(tmp_path / "a"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["events"], found["nodes"], found["edge_dim"]) == (500, 100, 16)
    data.main(["info", str(tmp_path / "a"), "--verify"])
    assert "500" in capsys.readouterr().out


def test_info_verifies_on_request(tmp_path):
    data.main(["generate", "stream", "--out", str(tmp_path / "a"), "--events", "500", "--nodes", "100"])
    column = bytearray((tmp_path / "a" / "edge_features.npy").read_bytes())
    column[-1] ^= 1
    (tmp_path / "a" / "edge_features.npy").write_bytes(column)
    with pytest.raises(StoreError, match="SHA-256"):
        data.main(["info", str(tmp_path / "a"), "--verify"])


def test_help_names_every_command_and_format(capsys):
    data.main([])
    printed = capsys.readouterr().out
    assert all(name in printed for name in data.COMMANDS)
    data.main(["generate", "--help"])
    assert "generate stream" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        data.main(["import", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("SOURCE", "auto", *FORMATS))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["imprt", "x"], r"Did you mean `tgscale data import`\?"),
        (["generate", "strem"], r"Did you mean `tgscale data generate stream`\?"),
        (["xyz"], r"`tgscale data xyz` is not a command\.\n"),
        (["generate", "stream", "--out", "x", "--evnts", "3"], r"(?s)--evnts.*Perhaps you meant:.*--events INT"),
        (["generate", "stream", "--out", "x", "--nodes", "3"], r"nodes is 3"),
        (["import", "x", "--out", "y", "--on-error", "skip"], r"'stop', 'drop'"),
        (["import", "x", "--out", "y", "--format", "joide"], r"Did you mean jodie\?"),
        (["info"], r"DIR"),
    ],
)
def test_mistakes_are_refused_with_what_is_right(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        data.main(argv)
    assert list(tmp_path.iterdir()) == []


def test_exit_codes(tmp_path, monkeypatch, capsys):
    for argv, code in ((["info", str(tmp_path)], 4), (["import"], 2), (["import", "missing.csv", "--out", "x"], 3)):
        monkeypatch.setattr(sys, "argv", ["tgscale", "data", *argv])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err


def test_export_says_what_is_lost_and_how_to_read_it_back(tmp_path, capsys):
    (tmp_path / "e.csv").write_text("src,dst,time,label,f0\na,b,1,0,0.5\nb,a,2,1,1.5\n")
    data.main(["import", str(tmp_path / "e.csv"), "--out", str(tmp_path / "store"), "--edge-features", "f0"])
    capsys.readouterr()
    data.main(["export", str(tmp_path / "store"), "--format", "snap", "--out", str(tmp_path / "x.txt")])
    printed = capsys.readouterr().out
    assert "warning: snap does not carry labels, edge features" in printed
    data.main(["export", str(tmp_path / "store"), "--format", "csv", "--out", str(tmp_path / "x.csv")])
    printed = capsys.readouterr().out
    command = next(line for line in printed.splitlines() if line.startswith("read it back: "))
    words = shlex.split(command.removeprefix("read it back: tgscale data "))
    data.main([str(tmp_path / "again") if word == "NEW" else word for word in words])
    assert open_stream(tmp_path / "again").edge_features.tolist() == [[0.5], [1.5]]
