"""Write notebooks in the form in which they are committed: ``python notebooks/strip.py notebooks/*.ipynb``.

The sources of the cells are all that is kept, one line a line. So a diff shows what a person changed, and Colab,
Jupyter and GitHub open the file as it is. Notebook format 4.4 is the last without ids of cells, which editors change.
"""

import pathlib
import sys

import nbformat
from nbformat import v4

METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
NEW_CELL = {"code": v4.new_code_cell, "markdown": v4.new_markdown_cell, "raw": v4.new_raw_cell}


def stripped(text: str) -> str:
    """The notebook ``text`` without outputs, counts, ids and metadata."""
    cells = [NEW_CELL[cell.cell_type](cell.source) for cell in nbformat.reads(text, as_version=4).cells]
    for cell in cells:
        del cell["id"]
    notebook = v4.new_notebook(cells=cells, metadata=METADATA, nbformat_minor=4)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    for path in map(pathlib.Path, sys.argv[1:]):
        path.write_text(stripped(path.read_text("utf-8")), "utf-8")
