import re

import pytest
from matplotlib.image import imread

from tgscale.report.schedule_figure import draw_schedule
from tgscale.stream.layout import Layout
from tgscale.stream.schedule import Schedule


def drawn(tmp_path, layout, batches, epochs, **kwargs):
    """Words of the drawing, and the schedule."""
    schedule = Schedule(Layout.parse(layout), batches * 10, 10, epochs)
    draw_schedule(schedule, tmp_path / "s.svg", **kwargs)
    return re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "s.svg").read_text()), schedule


def cells(schedule, iterations=None):
    """What the text table says: names of the cells, and their marks."""
    table = schedule.table(iterations).split()
    found = [re.fullmatch(r"(\d+)([a-z])([R0W]*)", cell).groups() for cell in table if cell != "."]
    letters = schedule.layout.epoch > 1
    return [batch + letter * letters for batch, letter, _ in found], "".join(marks for *_, marks in found)


@pytest.mark.parametrize(
    ("layout", "batches", "epochs"), [("3x1x1", 7, 2), ("1x3x1", 5, 6), ("1x1x3", 7, 3), ("2x2x2", 8, 4)]
)
def test_the_drawing_holds_what_the_table_holds(tmp_path, layout, batches, epochs):
    words, schedule = drawn(tmp_path, layout, batches, epochs)
    names, marks = cells(schedule)
    for word in {*names, *(str(t) for t in range(schedule.iterations))}:
        expected = names.count(word) + (word.isdigit() and int(word) < schedule.iterations)
        found = words.count(word) - (word == "0") * (marks.count("0") + 1)  # a mark of its own, and in the legend
        assert found == expected, word
    for mark in "R0W":
        plain = names.count(mark) + (mark == "0")
        assert words.count(mark) - plain == marks.count(mark) + 1  # one in the legend
    assert [word for word in words if word.startswith("trainer")] == [
        f"trainer {r}" for r in range(schedule.layout.world)
    ]
    copies = schedule.layout.memory if schedule.layout.memory > 1 else 0
    assert sum(word.startswith("copy") for word in words) == copies


def test_the_first_iterations_alone(tmp_path):
    words, schedule = drawn(tmp_path, "1x2x1", 50, 2, iterations=4)
    names, _ = cells(schedule, 4)
    assert names == ["0a", "0b", "2a", "2b", "1a", "1b", "3a"]
    assert [word for word in words if re.fullmatch(r"\d+[ab]", word)] == names


def test_pictures_grow_with_the_schedule(tmp_path):
    shapes = []
    for layout in ("1x1x1", "1x1x4"):
        draw_schedule(Schedule(Layout.parse(layout), 200, 10, 4), tmp_path / "s.png", iterations=12)
        shapes.append(imread(tmp_path / "s.png").shape[:2])
    assert shapes[1][0] > 1.5 * shapes[0][0]
    assert imread(tmp_path / "s.png")[0, 0].tolist() == [1, 1, 1, 1]  # white, also on a dark page


def test_equal_schedules_make_equal_files(tmp_path):
    schedule = Schedule(Layout(2, 2, 1), 90, 10, 4)
    draw_schedule(schedule, tmp_path / "a.svg", tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
