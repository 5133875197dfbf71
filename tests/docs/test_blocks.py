"""Every block of Bash and Python on the pages runs, in order, in a folder with small data; or says why it does not."""

import re
from pathlib import Path

import pytest

from .desk import Desk, Shelf
from .pages import PAGES, ROOT, Block, blocks_of

CODE = {page: [block for block in blocks_of(page) if block.is_code] for page in PAGES}
MISTAKES = ROOT / "docs" / "troubleshooting.md"  # run by test_troubleshooting.py
RUN = [page for page in PAGES if page != MISTAKES and any(block.reason is None for block in CODE[page])]
AT_MOST_NOT_RUN = 0.3  # of all blocks


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_blocks_run(page, shelf, tmp_path):
    desks = [Desk(tmp_path / "desk0", shelf)]
    printed = None
    try:
        for block in blocks_of(page):
            if "fresh" in block.says:
                desks.append(Desk(tmp_path / f"desk{len(desks)}", shelf))
            if block.is_code:
                printed = None if block.reason is not None else run(block, desks[-1])
            elif "output" in block.says:
                assert printed is not None, f"{block.place}: no block that is run stands before this output"
                missing = lines_missing(block.code, printed)
                assert not missing, f"{block.place}: not printed: {missing}\nprinted:\n{printed[-4000:]}"
    finally:
        for desk in desks:
            desk.close()


def run(block: Block, desk: Desk) -> str:
    """Run one block; what it printed."""
    for name in block.given:
        desk.shelf.give(desk.folder, name)
    try:
        if block.language == "python":
            return desk.python(block.script, name_of(block.page), block.line)
        return desk.bash(block.script, int(block.says.get("exits with", 0)))
    except AssertionError as error:
        raise AssertionError(f"{block.place} {error}\n\nThe block, as it ran:\n{block.script}") from None


def lines_missing(expected: str, printed: str) -> list[str]:
    """Lines of an expected output whose words (file names, headings, but no numbers) are not all printed."""
    there = set(words_of(printed))
    return [line for line in expected.splitlines() if not set(words_of(line)) <= there]


def words_of(text: str) -> list[str]:
    return re.findall(r"[A-Za-z][\w./]*[A-Za-z]", text)


def test_an_output_is_compared_by_its_words():
    printed = "│ tgn  │ 0.31 │\nruns/mine/result.json  all figures, in 3 s\n"
    assert lines_missing("┃ tgn ┃ 0.99\n...\nruns/mine/result.json  all figures\n", printed) == []
    assert lines_missing("edgebank 0.2\nruns/mine/report.json", printed) == ["edgebank 0.2", "runs/mine/report.json"]


PAGE = """<!-- fresh -->
<!-- given: data/a, runs/b -->

```bash
ls 4
```

<!-- not run: a b -->
text

```python
1
```

- item

  <!-- run with: 4 -> 2; ls -> echo -->
  ```bash
  ls 4
  ```
"""


def test_comments_belong_to_the_block_that_follows(tmp_path):
    (tmp_path / "page.md").write_text(PAGE)
    first, second, third = blocks_of(tmp_path / "page.md")
    assert first.says.keys() == {"fresh", "given"}
    assert first.given == ["data/a", "runs/b"]
    assert (second.says, second.line, second.code) == ({}, 11, "1\n")
    assert third.script == "echo 2\n"


def test_a_block_that_is_not_run_says_why():
    for block in (block for blocks in CODE.values() for block in blocks if block.reason is not None):
        assert len(block.reason.split()) >= 2, f"{block.place}: `not run` without a reason"
        assert not set(block.says) - {"not run"}, f"{block.place}: is not run, and has a comment on how it is"


def test_most_blocks_run(capsys):
    """Prints the pages with their blocks, so that what is not run stays in sight."""
    blocks = [block for found in CODE.values() for block in found]
    left_out = [block for block in blocks if block.reason is not None]
    with capsys.disabled():
        print(f"\n{len(blocks) - len(left_out)} blocks of the documentation run, {len(left_out)} do not:")
        for block in left_out:
            print(f"  {block.place}: {block.reason}")
    assert len(left_out) <= AT_MOST_NOT_RUN * len(blocks), (
        "more blocks than that are left out: let some run, scaled down"
    )


def test_commands_are_marked_as_bash():
    """A fence without a language hides commands from the tests."""
    for page in PAGES:
        for block in blocks_of(page):
            if not block.is_code and "output" not in block.says:
                lines = [line for line in block.code.splitlines() if re.match(r"(tgscale|python|torchrun|make) ", line)]
                assert not lines, f"{block.place}: commands in a block that is not marked as bash: {lines[0]}"
