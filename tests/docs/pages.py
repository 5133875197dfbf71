"""Blocks of code on the pages, and what the comments before them say.

A comment stands on a line of its own before the block that it is about:

- ``<!-- given: data/mine, runs/mine -->``: what lies there before the block runs (see ``desk.py``)
- ``<!-- run with: 4 trainers -> 2 trainers; HOST -> 127.0.0.1 -->``: words of the block that the run replaces
- ``<!-- not run: needs two machines -->``: the block is not run, and why
- ``<!-- exits with: 2 -->``: the last command of the block is refused, with this exit code
- ``<!-- output -->``: a block of text is what the block before it prints (compared without numbers)
- ``<!-- fresh -->``: from here on another empty folder
"""

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("**/*.md")])
RUN = ("bash", "python")
WORDS = ("given", "run with", "not run", "exits with", "output", "fresh")

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^ *(?P=fence) *$", re.M | re.S
)
_COMMENTS = re.compile(r"(?:^ *<!--.*?-->[ \t]*\n\s*)+\Z", re.M | re.S)
_COMMENT = re.compile(r"<!--\s*(?P<word>[a-z ]+?)\s*(?::\s*(?P<text>.*?))?\s*-->", re.S)


@dataclass
class Block:
    """One fenced block of a page.

    Attributes:
        page: the file.
        line: where its fence stands, from 1.
        language: what stands after the fence; "" for nothing.
        code: its lines.
        says: word -> text of the comments before it.
    """

    page: Path
    line: int
    language: str
    code: str
    says: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_code(self) -> bool:
        return self.language in RUN

    @property
    def reason(self) -> str | None:
        """Why it is not run; None if it is."""
        return self.says.get("not run")

    @property
    def given(self) -> list[str]:
        return [name.strip() for name in self.says.get("given", "").split(",") if name.strip()]

    @property
    def script(self) -> str:
        """The code as it is run.

        Raises:
            AssertionError: a word to be replaced does not stand in the block.
        """
        code = self.code
        for pair in filter(str.strip, self.says.get("run with", "").split(";")):
            old, arrow, new = pair.partition("->")
            assert arrow, f"{self.place}: `run with` takes OLD -> NEW; OLD -> NEW, and this says {pair!r}"
            assert old.strip() in code, f"{self.place}: `run with` replaces {old.strip()!r}, which is not in the block"
            code = code.replace(old.strip(), new.strip())
        return code


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text, found, last = page.read_text(), [], 0
    for match in _BLOCK.finditer(text):
        before = _COMMENTS.search(text[last : match.start()])
        comments = _COMMENT.finditer(before[0]) if before else ()
        says = {comment["word"]: comment["text"] or "" for comment in comments if comment["word"] in WORDS}
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"], textwrap.dedent(match["code"]), says))
        last = match.end()
    return found
