"""Prints the oldest packages that pyproject.toml allows, as pip takes them."""

import pathlib
import re
import tomllib

project = tomllib.loads((pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"]:
    found = re.match(r"([\w-]+)>=([\w.]+)", requirement)
    if found is None:
        raise SystemExit(f"{requirement}: expected a lower bound, name>=version, as every dependency has")
    print("==".join(found.groups()))
