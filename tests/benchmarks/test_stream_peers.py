"""The benchmark against peers: each side trains the same events and learns; tables say what was measured."""

import ast
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_average_precision

from tgscale.data.generate import generate_stream

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _benchmarks():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    from stream_peers_case import Case

    stream = generate_stream(events=1500, nodes=120, edge_features=0, seed=3)
    features = np.random.default_rng(0).normal(size=(1500, 6)).astype(np.float32)
    columns = (np.asarray(x, np.int64) for x in (stream.src, stream.dst, stream.time))
    path = tmp_path_factory.mktemp("case") / "case.npz"
    Case(*columns, features, stream.num_nodes, warm_up=100, train=1200, batch_size=50, rounds=3).save(path)
    return path


def rounds_of(python, script, case, **options):
    """Answers of a side to three rounds, and to the request for scores."""
    from worker import Worker

    with Worker(python, script, 1) as worker:
        assert "torch" in worker.ask(do="start", case=str(case), **options)["version"]
        return [worker.ask(do="round") for _ in range(3)], worker.ask(do="score")


def learns(rounds, scores):
    assert [answer["events"] for answer in rounds] == [1100] * 3
    assert all(answer["seconds"] > 0 for answer in rounds)
    assert rounds[0]["loss"] > max(answer["loss"] for answer in rounds[1:])  # later ones differ by noise
    assert 0.55 < scores["ap"] < 1


def test_our_side(case):
    learns(*rounds_of(sys.executable, "stream_peers_ours.py", case, model__time_encoding="learned"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pyg", "tgm"])
def test_a_peer(case, name):
    from peers import interpreter

    python = interpreter(ROOT / "build" / "peers")
    if not python.exists():
        pytest.skip("the peers are not installed: python benchmarks/peers.py --out build/peers")
    learns(*rounds_of(python, f"stream_peers_{name}.py", case))


def test_our_side_trains_every_event_once_a_round(case):
    from stream_peers_ours import Run

    run = Run(str(case), {})
    seen, batch_of = [], run.loop._builder.range

    def watched(start, stop, *args, **kwargs):
        seen.extend(range(start, stop))
        return batch_of(start, stop, *args, **kwargs)

    run.loop._builder.range = watched
    for _ in range(3):
        run.round()
    assert seen == list(range(1200)) * 3


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=30))
def test_average_precision_is_that_of_torchmetrics(pairs):
    from stream_peers_case import average_precision

    positive, negative = (np.array(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    score = torch.from_numpy(np.concatenate([positive, negative])).sigmoid()
    target = torch.arange(len(score)) < len(positive)
    expected = float(binary_average_precision(score, target.long()))
    assert average_precision(positive, negative) == pytest.approx(expected, rel=1e-5)


def test_a_process_that_ends_is_named(case):
    from worker import Worker

    with (
        Worker(sys.executable, "stream_peers_ours.py", 1) as worker,
        pytest.raises(SystemExit, match=r"stream_peers_ours.*no such action"),
    ):
        worker.ask(do="no such action")


def test_what_a_side_prints_is_not_an_answer(monkeypatch, capsys):
    from worker import serve

    monkeypatch.setattr(sys, "stdin", ['{"do": "double", "number": 4}\n', '{"do": "nothing"}\n'])
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back afterwards
    serve({"double": lambda number: print("noise") or {"is": 2 * number}, "nothing": lambda: None})
    printed = capsys.readouterr()
    assert [json.loads(line) for line in printed.out.splitlines()] == [{"is": 8}, {}]
    assert printed.err == "noise\n"


def test_ratios_are_of_rounds_side_by_side():
    from stream_peers import Result, table

    rates = {"PyG": [100.0, 200.0, 50.0], "tgscale": [300.0, 400.0, 250.0]}
    losses = {name: [0.5, 0.25, 0.125] for name in rates}
    versions = {"PyG": "torch-geometric 1", "tgscale": "tgscale 2"}
    result = Result(200, 1, 1000, "a machine", versions, rates, losses, dict.fromkeys(rates, 0.75))
    assert result.ratio("tgscale", "PyG") == "3.00 (2.00 to 5.00)"
    assert result.ratio("PyG", "PyG") == result.ratio("tgscale", "TGM") == ""
    written = table([result])
    assert "| 200 | 1 | tgscale | 300 | 250 to 400 | 3.00 (2.00 to 5.00) |  | 0.125 | 0.750 |" in written
    assert written.endswith("Medians of 3 rounds of 1,000 events; a machine; tgscale 2; torch-geometric 1.")


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("Building\nx.h:5:2: error: #error C++17 is required\nerror: failed", "C++17 is required"),
        ("Traceback\nModuleNotFoundError: No module named 'x'\n", "ModuleNotFoundError: No module named 'x'"),
        ("error: subprocess-exited-with-error\nERROR: no wheel", "ERROR: no wheel"),
        ("", "no reason given"),
    ],
)
def test_why_a_peer_does_not_install(printed, reason):
    from peers import why

    assert why(printed) == reason


def test_tables_go_between_their_markers(tmp_path):
    from tables import markdown, write_between

    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- a -->\n\nold\n\n<!-- /a -->\n\nafter <!-- b --><!-- /b -->\n")
    written = markdown(["x", "y"], [[1, r"\1"]])
    for _ in range(2):
        write_between(page, "a", written)
    table = "| x | y |\n| --- | --- |\n| 1 | \\1 |"
    expected = f"before\n\n<!-- a -->\n\n{table}\n\n<!-- /a -->\n\nafter <!-- b --><!-- /b -->\n"
    assert page.read_text() == expected
    for wrong in ("c", "a --><!-- b"):
        with pytest.raises(ValueError, match="once each"):
            write_between(page, wrong, "")
    assert page.read_text() == expected


def test_every_table_that_is_written_has_its_place():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    names = [
        name
        for file in (ROOT / "benchmarks").glob("*.py")
        for name in re.findall(r'publish\(DOCS / "benchmarks.md", "([^"]+)"', file.read_text())
    ]
    assert {"peers", "speed", "sampling", "stream peers"} <= set(names)
    for name in names:
        assert page.count(f"<!-- {name} -->") == page.count(f"<!-- /{name} -->") == 1


def test_every_benchmark_stands_in_the_list():
    listed = (ROOT / "benchmarks" / "README.md").read_text()
    missing = [file.name for file in (ROOT / "benchmarks").glob("*.py") if f"`{file.name}`" not in listed]
    assert not missing, "one line each in benchmarks/README.md"


def test_what_a_benchmark_takes_from_another_is_there():
    files = {file.stem: file for file in (ROOT / "benchmarks").glob("*.py")}
    for file in files.values():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in files:
                there = ast.parse(files[node.module].read_text()).body
                names = {each.name for each in there if isinstance(each, ast.FunctionDef | ast.ClassDef)}
                names |= {a.name for each in there if isinstance(each, ast.ImportFrom) for a in each.names}
                for each in (n for n in there if isinstance(n, ast.Assign | ast.AnnAssign)):
                    names |= {n.id for n in ast.walk(each) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
                assert {alias.name for alias in node.names} <= names, f"{file.name} from {node.module}"
