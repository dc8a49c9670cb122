"""Importing the library: no side effects, and no packages but the declared dependencies."""

import ast
import os
import pathlib
import subprocess
import sys
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jaxrnn

PACKAGE = pathlib.Path(jaxrnn.__file__).parent


def python(code, *options):
    """The words that the code prints in a new interpreter; fails if the code fails."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SIDE_EFFECTS = """
import builtins, io, logging, os, sys
import jax, optax
settings, environment = dict(jax.config.values), dict(os.environ)
loggers = {name: logging.getLogger(name).level for name in ("", "absl", "jax")}
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import jaxrnn
changed = {name for name, value in jax.config.values.items() if name in settings and settings[name] is not value}
assert not changed, changed
assert dict(os.environ) == environment
assert {name: logging.getLogger(name).level for name in loggers} == loggers
read = [path for path in opened if not path.endswith((".py", ".pyc", ".so", ".pyd"))]
print(*read)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
heavy = {"orbax", "rich", "flax", "matplotlib", "pooch", "torch", "tensorboardX", "tensorflow", "scipy.io"}
heavy |= {"onnx", "keras", "haiku", "equinox", "safetensors", "jaxrnn.interop.torch"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_no_side_effects():
    """No warning, no changed setting, no file read, no backend initialised, and no optional package imported."""
    assert python(SIDE_EFFECTS, "-W", "error") == []


BARE = """
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not declared")

sys.meta_path.insert(0, Missing())
import jaxrnn
for module in pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn."):
    if module.name.startswith("jaxrnn.interop.bridges."):
        continue  # each needs the library that it is for
    importlib.import_module(module.name)
    print(module.name)
"""


def test_every_module_imports_with_the_declared_dependencies_alone():
    """Every installed package that is not a dependency, direct or indirect, is hidden."""
    needed, reached = list(declared()), set()
    while needed:
        name = needed.pop()
        if name not in reached:
            reached.add(name)
            needed += requirements(name)
    owners = metadata.packages_distributions()
    blocked = {top for top, names in owners.items() if not reached & set(map(canonicalize_name, names))} - {"jaxrnn"}
    assert {"pytest", "hypothesis"} <= blocked
    modules = python(f"blocked = {blocked}\n{BARE}", "-W", "error")
    assert {f"jaxrnn.{path.stem}" for path in PACKAGE.glob("*.py") if path.stem != "__init__"} < set(modules)


def test_imported_packages_are_declared():
    """Including indirect dependencies; optional packages are imported only inside of functions."""
    owners = metadata.packages_distributions()
    always, extras = (
        declared(),
        {"torch", "tensorboardx", "ipython"}.union(*map(names, project()["optional-dependencies"].values())),
    )
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        bridge = path.parent.name == "bridges"  # imported by functions only
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {node.module.partition(".")[0]}
            else:
                continue
            for top in found - sys.stdlib_module_names - {"jaxrnn"}:
                owner = {canonicalize_name(name) for name in owners.get(top, [top])}
                assert owner & (always if node in tree.body and not bridge else always | extras), (
                    f"{path}:{node.lineno} {top}"
                )


def test_the_version_to_cite():
    """CITATION.cff, which comes with the package, names this version."""
    text = (pathlib.Path(jaxrnn.__file__).parent / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {jaxrnn.__version__}\n" in text


def project():
    """The ``project`` table of pyproject.toml."""
    return tomllib.loads((pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def names(requirements):
    """The names of the requirements whose markers apply here."""
    found = map(Requirement, requirements)
    return {canonicalize_name(r.name) for r in found if r.marker is None or r.marker.evaluate({"extra": ""})}


def declared():
    """The required dependencies."""
    return names(project()["dependencies"])


def requirements(name):
    """The requirements of an installed package; none for one that is not installed."""
    try:
        return names(metadata.requires(name) or [])
    except metadata.PackageNotFoundError:
        return set()
