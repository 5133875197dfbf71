"""The notebooks of examples/ run from the first cell to the last, and lie in git without their outputs."""

import nbformat
import pytest
from nbclient import NotebookClient

from .desk import SECONDS, environment
from .pages import DOCS, ROOT

FOLDER = ROOT / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
PRINTED = {
    "explore-and-train.ipynb": ["6,000 events", "burstiness", "test MRR", "report.html"],
    "layouts.ipynb": ["1x1x1", "1x1x4", "1x2x2", "2x1x2"],
}
"""Words that the cells print, in this order."""
PLOTS = {"explore-and-train.ipynb": 4, "layouts.ipynb": 1}


def read(file):
    return nbformat.read(file, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_each_notebook_is_known_here_and_on_the_page():
    page = (DOCS / "examples.md").read_text()
    assert {file.name for file in NOTEBOOKS} == PRINTED.keys() == PLOTS.keys()
    assert not [file.name for file in NOTEBOOKS if f"notebooks/{file.name}" not in page]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_no_outputs_are_kept(file):
    notebook = read(file)
    nbformat.validate(notebook)
    hint = "clear its outputs before you commit it: `jupyter nbconvert --clear-output`, or the editor's command"
    for cell in code_of(notebook):
        assert cell.outputs == [], f"{file.name} holds outputs; {hint}"
        assert cell.execution_count is None, f"{file.name} holds counts of executions; {hint}"
    assert not [cell.id for cell in notebook.cells if cell.metadata], f"{file.name} holds an editor's metadata"
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}, f"{file.name} names a version of Python"


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_it_runs(file, tmp_path, monkeypatch):
    """In a kernel of this Python, from an empty folder, which stays empty."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    desk, temporary = tmp_path / "desk", tmp_path / "temporary"
    for folder in (desk, temporary):
        folder.mkdir()
    kernel = environment(tmp_path) | {"IPYTHONDIR": str(tmp_path / "ipython"), "TMPDIR": str(temporary)}
    del kernel["MPLBACKEND"]  # so that figures are outputs, as in an editor
    notebook = read(file)
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": desk}})
    client.execute(env=kernel)  # raises, with the cell, where one fails

    assert all(cell.execution_count for cell in code_of(notebook))
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    rest = printed
    for word in PRINTED[file.name]:
        assert word in rest, f"{word!r} was not printed, or not in its place:\n{printed}"
        rest = rest.partition(word)[2]
    plots = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(plots) == PLOTS[file.name]
    assert not list(desk.iterdir()), "it writes into the folder in which it is opened"
    assert len(list(temporary.glob("tgscale-*"))) == 1
