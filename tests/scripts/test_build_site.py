"""The site without Sphinx: links of the repository's texts become links of pages, and dead ones are found."""

import pytest


@pytest.fixture
def build_site(load_script):
    return load_script("build_site")


def test_links_between_pages(build_site, tmp_path):
    pages = {"README.md#cells": "guide/cells.md", "scripts/BENCHMARKS.md": "results/benchmarks.md"}
    text = """[a](scripts/BENCHMARKS.md#speed) [b](#cells) [c](jaxrnn/unroll.py) [d](https://docs.jax.dev)
`[e](#cells)` ![f](scripts/gradient_flow.svg)
```py
x[0](#cells)
```"""
    found = build_site.relinked(text, "README.md", pages, tmp_path)
    assert found == """[a](/results/benchmarks.md#speed) [b](/guide/cells.md) c [d](https://docs.jax.dev)
`[e](#cells)` ![f](/scripts/gradient_flow.svg)
```py
x[0](#cells)
```"""  # fmt: skip
    assert (tmp_path / "scripts" / "gradient_flow.svg").exists()
    migrating = build_site.relinked("[g](../../README.md#cells)", "jaxrnn/interop/MIGRATING.md", pages, tmp_path)
    assert migrating == "[g](/guide/cells.md)"
    with pytest.raises(SystemExit, match=r"README.md: scripts/NO.md leads nowhere"):
        build_site.relinked("[h](scripts/NO.md)", "README.md", pages, tmp_path)


def test_every_section_of_the_readme_is_a_page(build_site, tmp_path):
    build_site.write_pages(tmp_path)
    index = (tmp_path / "index.md").read_text("utf-8")
    guides = {path.stem for path in (tmp_path / "guide").iterdir()}
    assert guides >= {"cells", "your-own-cell", "from-a-laptop-to-a-cluster", "migrating"}
    assert all(f"guide/{name}\n" in index for name in guides)
    assert "**Contents**" not in index


def test_dead_links(build_site, tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="#x"> <a href="b.html#y"> <a href="https://docs.jax.dev">')
    (tmp_path / "b.html").write_text('<a id="y" href="a.html"> <a href="a.html#z"> <img src="c.png">')
    assert [*build_site.dead_links(tmp_path)] == ["b.html: a.html#z leads nowhere", "b.html: c.png leads nowhere"]
