"""How Sphinx builds the site; see scripts/build_site.py."""

import importlib.util
import os
import pathlib
from importlib import resources

import jaxrnn

os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

project = "jaxrnn"
version = release = jaxrnn.__version__
copyright = author = "the authors of jaxrnn"
root_doc = "index"
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "myst_nb",
]
templates_path = ["templates"]
exclude_patterns = ["templates", ".links"]

# ---- pages in Markdown, and notebooks ----

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nb_execution_cache_path = str(pathlib.Path(__file__).parent.parent / "notebooks-run")  # build/: kept between builds
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# ---- the reference, from the docstrings ----

autosummary_ignore_module_all = False  # the public interface is what __all__ names
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 90  # longer ones have a line for each argument
# a library that is not installed: its room is documented all the same
OPTIONAL = ("torch", "keras", "haiku", "equinox", "onnx", "safetensors", "matplotlib", "tokenizers", "pooch")
autodoc_mock_imports = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]

# ---- how it looks ----

html_theme = "furo"
html_title = f"jaxrnn {version}"
html_copy_source = False
html_show_sphinx = False
# MathJax in the site itself: formulas need no network
html_static_path = [str(resources.files("sphinx-mathjax-offline") / "static")]
mathjax_path = "mathjax/tex-chtml.js"


def skip(app, what, name, obj, default, options):
    """Fields of a named tuple have no docstring of their own."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def describe(app, what, name, obj, options, lines):
    """A constant has that of its class, such as dict: not shown."""
    if what == "data":
        lines[:] = [f"A ``{type(obj).__name__}``, described in the text of its module."]


def setup(app):
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", describe)
    return {"parallel_read_safe": True}
