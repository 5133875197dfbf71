"""The pictures of the architecture are those of the package: its lines, and what the script draws."""

import importlib.util

import pytest

from .pages import DOCS, ROOT

SCRIPT = importlib.util.spec_from_file_location("draw_architecture", DOCS / "draw_architecture.py")
drawing = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(drawing)


@pytest.mark.parametrize("name", drawing.PICTURES)
def test_pictures_are_as_drawn(name):
    assert (DOCS / "images" / name).read_text() == drawing.PICTURES[name](), "run docs/draw_architecture.py"


def test_the_house_has_the_lines_of_the_package():
    package = ROOT / "src" / "tgscale"
    there = {path.stem for path in package.iterdir() if not path.name.startswith("_") and path.suffix in ("", ".py")}
    assert {name for _, lines in drawing.HOUSE for name, _ in lines} == there
