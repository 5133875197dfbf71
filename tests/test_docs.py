"""What README and docs point to exists: files, headings, pages, commands, options, names."""

import ast
import importlib
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from tgscale import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(linked), f"{target}: no such heading"


def pages_of(nav) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for item in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(item)]


def test_the_navigation_holds_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages_of(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.md"))


@cache
def help_of(command: tuple[str, ...]) -> str:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr(sys, "argv", ["tgscale", *command, "--help"])
        patch.setattr(sys.stdout, "write", printed.append)
        with pytest.raises(SystemExit) as caught:
            cli.main()
    assert caught.value.code == 0, f"`tgscale {' '.join(command)}` is not a command"
    return "".join(printed)


COMMANDS = [
    ("data", "list"), ("data", "get"), ("data", "export"),
    ("data", "generate", "stream"), ("data", "generate", "snapshots"), ("data", "import"), ("data", "info"), ("train",),
    ("evaluate",), ("predict",), ("export",), ("plan",), ("explain",), ("simulate",),
    ("report",),
]  # fmt: skip


# Not those of errors: they are wrong on purpose, and tests/docs runs them.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "troubleshooting.md"], ids=name_of)
def test_commands_and_their_options_are_there(page):
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.partition("#")[0].split()
            if not words or Path(words[0]).name != "tgscale":
                continue
            if words[1:] == ["--version"] or words[1:2] == ["--print-completion"]:
                continue
            command = next((c for c in COMMANDS if tuple(words[1 : 1 + len(c)]) == c), None)
            assert command, f"{line!r} is no command of tgscale"
            known = {"--any.option", *re.findall(r"--[a-z][\w.-]*", help_of(command))}
            used = {option.replace("_", "-") for option in re.findall(r"--[a-z][\w.-]*", " ".join(words))}
            assert used <= known, f"{line!r}: {sorted(used - known)} unknown"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_are_there(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    in_blocks = re.findall(r"^make ([a-z-]+)", "\n".join(blocks(page, "bash")), re.M)
    in_prose = re.findall(r"`make ([a-z-]+)", prose(page))
    assert {*in_blocks, *in_prose} <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_are_python_and_name_what_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tgscale"):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tgscale":
                assert hasattr(importlib.import_module("tgscale"), node.attr), f"tgscale.{node.attr}"


def test_every_module_named_in_the_reference_is_there():
    for module in re.findall(r"^::: ([\w.]+)", (DOCS / "api.md").read_text(), re.M):
        importlib.import_module(module)


def shown() -> list[tuple[str, list[str] | None]]:
    """Modules of the reference, and which of their members it shows; None for all."""
    blocks = re.findall(
        r"^::: ([\w.]+)\n(?:    options:\n      members: \[(.*?)\])?", (DOCS / "api.md").read_text(), re.M
    )
    return [(module, re.split(r",\s*", members) if members else None) for module, members in blocks]


def test_each_module_stands_in_the_reference_once():
    modules = [module for module, _ in shown()]
    assert sorted({module for module in modules if modules.count(module) > 1}) == []


@pytest.mark.parametrize(("module", "members"), shown(), ids=[module for module, _ in shown()])
def test_what_the_reference_shows_has_docstrings(module, members):
    """Without one, a function is left out of the page in silence. What engines call may leave it to its protocol."""
    methods = module.split(".")[1] in ("data", "graph", "models", "nn")
    tree = ast.parse(Path(importlib.import_module(module).__file__).read_text())
    defined = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    chosen = [node for node in defined if not node.name.startswith("_") and (members is None or node.name in members)]
    assert members is None or {node.name for node in chosen} == set(members)
    assert [name for node in chosen for name in undocumented(node, methods)] == []


def undocumented(node: ast.FunctionDef | ast.ClassDef, methods: bool) -> list[str]:
    """Names of a function, or of a class and its public methods, that have no docstring; torch's own need none."""
    missing = [] if ast.get_docstring(node) else [node.name]
    autograd = isinstance(node, ast.ClassDef) and "torch.autograd.Function" in map(ast.unparse, node.bases)
    if methods and isinstance(node, ast.ClassDef) and not autograd:
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and method.name != "extra_repr":
                setter = any(ast.unparse(each).endswith(".setter") for each in method.decorator_list)
                missing += [] if setter else [f"{node.name}.{name}" for name in undocumented(method, methods)]
    return missing


def test_modules_that_examples_and_pages_import_stand_in_the_reference():
    code = [block for page in PAGES for block in blocks(page, "python")]
    files = (file for kind in ("py", "ipynb") for file in (ROOT / "examples").glob(f"**/*.{kind}"))
    code += [file.read_text() for file in files]
    named = {name for text in code for name in re.findall(r"^[\s\"]*from (tgscale\.[\w.]+) import", text, re.M)}
    assert sorted(named - {module for module, _ in shown()} - {"tgscale.cli"}) == []


def test_no_page_waits_for_a_figure():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        assert "_PLACEHOLDER" not in page.read_text(), page.name
