"""Build the site, the guide, the notebooks and the reference, into ``site/``.

    python scripts/build_site.py               # the notebooks as they are, without outputs; seconds to a minute
    python scripts/build_site.py --execute     # the notebooks run first, and have outputs and pictures; half an hour
    python scripts/build_site.py --external    # also asks the web whether each link to it works

Open ``site/index.html``. It needs ``pip install -e '.[docs]'``, with ``--execute`` also ``[notebooks]``. A warning of
Sphinx is an error, and so is a link within the site that leads nowhere.

Every text is where the repository has it: the sections of README.md become pages, and the notebooks and the other pages
in Markdown are taken as they are. Only their links are rewritten, to the pages of the site; a link to a file that is no
page becomes text.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import shutil
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlparse

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "scripts" / "site"  # conf.py, templates, and the pages that are only of the site
PAGES = {
    "scripts/BENCHMARKS.md": "results/benchmarks.md",
    "scripts/EFFECTS.md": "results/effects.md",
    "scripts/FORECASTS.md": "results/forecasts.md",
    "jaxrnn/interop/MIGRATING.md": "guide/migrating.md",
    "jaxrnn/CHANGELOG.md": "changelog.md",
}
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<code>`[^`\n]+`)|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def main() -> None:
    args = arguments()
    stage, out, built = ROOT / "build" / "site", pathlib.Path(args.out), ROOT / "build" / "html"
    for old in (stage, built):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(SOURCES, stage)
    write_pages(stage)
    try:
        from sphinx.cmd.build import main as sphinx
    except ModuleNotFoundError:
        sys.exit("expected Sphinx; pip install -e '.[docs]'")
    os.environ["JAX_PLATFORMS"] = "cpu"
    mode = ["-D", f"nb_execution_mode={'cache' if args.execute else 'off'}"]
    options = ["-q", "-W", "--keep-going", "-j", "auto", "-d", str(ROOT / "build" / "doctrees")]
    failed = sphinx([*options, *mode, str(stage), str(built)])
    if args.external:
        failed |= sphinx([*options, *mode, "-b", "linkcheck", str(stage), str(stage / ".links")])
    dead = list(dead_links(built))
    if failed or dead:
        sys.exit("\n".join([*dead, "the site has faults"]))
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(built, out)
    print(f"{out / 'index.html'} is written")


# ---- the pages, from the files of the repository ----


def write_pages(stage: pathlib.Path) -> None:
    """Write the sections of the README, the other pages and the notebooks into the sources of Sphinx."""
    readme = (ROOT / "README.md").read_text("utf-8")
    head, *sections = re.split(r"^## ", re.sub(r"^\*\*Contents\*\*.*?\n\n", "", readme, flags=re.M | re.S), flags=re.M)
    pages = dict(PAGES)
    for section in sections:
        pages[f"README.md#{anchor(section)}"] = f"guide/{anchor(section)}.md"
    pages |= {f"notebooks/{path.name}": f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}

    def write(page: str, text: str) -> None:
        (stage / page).parent.mkdir(parents=True, exist_ok=True)
        (stage / page).write_text(text, "utf-8")

    for path in SOURCES.glob("*.md"):
        write(path.name, relinked(path.read_text("utf-8"), f"scripts/site/{path.name}", pages, stage))
    write("index.md", relinked(head, "README.md", pages, stage) + (stage / "index.md").read_text("utf-8"))
    for section in sections:
        text = re.sub(r"^#(#+ )", r"\1", section, flags=re.MULTILINE)  # a level up
        write(pages[f"README.md#{anchor(section)}"], "# " + relinked(text, "README.md", pages, stage))
    for source, page in PAGES.items():
        write(page, relinked((ROOT / source).read_text("utf-8"), source, pages, stage))
    for path in (ROOT / "notebooks").glob("*.ipynb"):  # only Markdown has links
        notebook = json.loads(path.read_text("utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = relinked("".join(cell["source"]), f"notebooks/{path.name}", pages, stage)
        write(f"notebooks/{path.name}", json.dumps(notebook))


def anchor(section: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", section.partition("\n")[0].lower()).replace(" ", "-")


def relinked(text: str, source: str, pages: dict[str, str], stage: pathlib.Path) -> str:
    """The text of the file ``source`` with links to pages of the site; code stays as it is."""

    def link(found: re.Match) -> str:
        target = found["target"] or ""
        if found["code"] or "://" in target:
            return found[0]
        path, _, heading = target.partition("#")
        file = os.path.normpath(os.path.join(os.path.dirname(source), path)) if path else source
        if not (ROOT / file).exists():
            sys.exit(f"{source}: {target} leads nowhere")
        if found["image"]:
            (stage / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, stage / file)
            return f"![{found['text']}](/{file})"
        if f"{file}#{heading}" in pages:  # a section of the README, a page of its own
            return f"[{found['text']}](/{pages[f'{file}#{heading}']})"
        if file in pages:
            return f"[{found['text']}](/{pages[file]}{'#' * bool(heading)}{heading})"
        return found["text"]

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


# ---- links within the site ----


class Links(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found[name] or "" for name in ("id", "name") if name in found}
        self.targets |= {found[name] or "" for name in ("href", "src") if name in found}


def dead_links(out: pathlib.Path):
    """Yield a line for each link of a page to a file or an anchor of the site that is not there."""
    pages = {path.resolve(): Links(path.read_text("utf-8")) for path in sorted(out.rglob("*.html"))}
    for page, links in pages.items():
        for target in sorted(links.targets):
            parts = urlparse(target)
            if parts.scheme or parts.netloc:
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = pages[file].anchors if file in pages else None
            if not file.exists() or (parts.fragment and known is not None and unquote(parts.fragment) not in known):
                yield f"{page.relative_to(out.resolve())}: {target} leads nowhere"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="site", help="folder of the site (default: site)")
    parser.add_argument(
        "--execute", action="store_true", help="run the notebooks; those that did not change, only once"
    )
    parser.add_argument("--external", action="store_true", help="check the links to the web too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
