"""One direction of imports: a lower line of the house never imports a higher one."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "tgscale"
# Lowest first. The two engines, snapshot and stream, stand side by side.
LINES = ["errors", "data", "graph", "nn", "memory", "models", "train", "snapshot", "stream", "report", "cli"]


def imported_lines(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[1] for name in names if name.startswith("tgscale.")}


@pytest.mark.parametrize("line", LINES)
def test_imports_point_downwards(line):
    files = [PACKAGE / f"{line}.py"] if (PACKAGE / f"{line}.py").exists() else sorted((PACKAGE / line).rglob("*.py"))
    assert files
    for file in files:
        for other in imported_lines(file):
            assert LINES.index(other) <= LINES.index(line), f"{file.relative_to(PACKAGE)} imports tgscale.{other}"


@pytest.mark.parametrize(("engine", "other"), [("snapshot", "stream"), ("stream", "snapshot")])
def test_the_engines_do_not_know_each_other(engine, other):
    knowing = [file.name for file in (PACKAGE / engine).rglob("*.py") if other in imported_lines(file)]
    assert not knowing


def test_every_line_is_known():
    found = {p.stem if p.suffix else p.name for p in PACKAGE.iterdir() if not p.name.startswith("__")}
    assert found - {"py", "py.typed"} <= set(LINES)
