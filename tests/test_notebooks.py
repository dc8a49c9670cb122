"""The notebooks: in the form in which they are committed; and, with ``-m notebook``, each of them runs."""

import importlib.util
import pathlib
import re

import pytest

nbformat = pytest.importorskip("nbformat")
FOLDER = pathlib.Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
STRICT = """import warnings

warnings.simplefilter("error")
warnings.filterwarnings("default", module="ipykernel")  # its own, when the kernel ends
"""
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n\n(.*?)\n\n</details>", re.DOTALL)

spec = importlib.util.spec_from_file_location("strip", FOLDER / "strip.py")
strip = importlib.util.module_from_spec(spec)
spec.loader.exec_module(strip)


def read(path):
    return nbformat.reads(path.read_text("utf-8"), as_version=4)


def first_code(path):
    return next(cell.source for cell in read(path).cells if cell.cell_type == "code")


def test_stripping():
    """Outputs, counts, ids and metadata go; the sources stay, one line a line."""
    code = nbformat.v4.new_code_cell("x = 'é'\nx", execution_count=3, metadata={"collapsed": True})
    code.outputs = [nbformat.v4.new_output("stream", text="é")]
    cells = [nbformat.v4.new_markdown_cell("# Title"), code, nbformat.v4.new_raw_cell("raw")]
    full = nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata={"colab": {"provenance": []}}))
    once = strip.stripped(full)
    assert strip.stripped(once) == once
    assert "é" in once
    assert [cell["source"] for cell in nbformat.reads(once, 4).cells] == ["# Title", "x = 'é'\nx", "raw"]
    assert not re.search(r'"(id|collapsed|colab)"|"execution_count": \d|"output_type"', once)
    assert '    "x = \'é\'\\n",\n    "x"\n' in once


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_form(path):
    """Stripped, and with the first cell, the solutions and the links that all of them have."""
    text = path.read_text("utf-8")
    assert strip.stripped(text) == text, f"python notebooks/strip.py {path}"
    assert first_code(path) == first_code(NOTEBOOKS[0])
    prose = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    assert len(SOLUTION.findall(prose)) == 3
    for target in re.findall(r"\]\(([^)#:]+)\)", re.sub(r"```.*?```", "", prose, flags=re.DOTALL)):
        assert (FOLDER / target).exists(), target


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    """From top to bottom, in quick form, each solution after its exercise; a warning is an error."""
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("JAXRNN_NOTEBOOK", "quick")
    notebook, code = read(path), nbformat.v4.new_code_cell
    cells = [code(STRICT)]
    for cell in notebook.cells:
        solutions = SOLUTION.findall(cell.source) if cell.cell_type == "markdown" else []
        blocks = re.findall(r"```python\n(.*?)```", "\n".join(solutions), re.DOTALL)
        cells += [cell, *map(code, blocks)]
    notebook.cells = cells
    client.execute(notebook, timeout=600, kernel_name="python3", cwd=FOLDER)
