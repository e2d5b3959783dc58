"""Builds the documentation site: `make docs`, or `python scripts/make_site.py [FOLDER]` (default: site).

docs/ is copied, the generated pages are added, docs/nav.yaml becomes the tables of contents, Sphinx builds the copy. A
warning of Sphinx (a dead link, a missing anchor) fails the build. Nothing is fetched, at build or by a browser."""

# Sphinx comes with the extra `docs` alone.
# pyright: reportMissingImports=false

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import site_pages


def write_sources(folder: Path) -> None:
    """What Sphinx reads: every page with its table of contents."""
    shutil.copytree(site_pages.DOCS, folder, dirs_exist_ok=True)
    for page, text in site_pages.GENERATED.items():
        (folder / page).write_text(text(), encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project.get("urls", {}).get("Repository", "")
    for name in ("tables.js", "tables.css"):  # as on the pages of reports: wide tables are lists on phones
        shutil.copy(ROOT / "twofold" / "reports" / "templates" / name, folder / "_static")
    contents = tables()
    for path in folder.rglob("*.md"):
        page = path.relative_to(folder).as_posix()
        text = site_pages.for_site(path.read_text(encoding="utf-8"), page, repository)
        path.write_text(text + contents.get(page, ""), encoding="utf-8")


def tables() -> dict[str, str]:
    """The tables of contents, by the page that ends with each."""
    sections = site_pages.navigation()
    contents = {"index.md": "".join(_table(pages, caption) for caption, pages in sections.items())}

    def below(pages: site_pages.Pages) -> None:
        for page, inner in pages.items():
            if inner:
                contents[page] = _table(inner)
                below(inner)

    for pages in sections.values():
        below(pages)
    return contents


def _table(pages: site_pages.Pages, caption: str = "") -> str:
    lines = [
        "```{toctree}",
        ":hidden:",
        *([f":caption: {caption}"] if caption else []),
        *(f"/{page}" for page in pages),
    ]
    return "\n\n" + "\n".join(lines) + "\n```\n"


def build(site: Path) -> int:
    """Sphinx's exit code; the pages are in `site`."""
    try:
        from sphinx.cmd.build import main
    except ModuleNotFoundError:
        print("Sphinx is not installed: pip install -e '.[docs]' -c constraints.txt")
        return 1

    with tempfile.TemporaryDirectory() as scratch:
        write_sources(Path(scratch, "docs"))
        return main(["-q", "-W", "--keep-going", "-b", "html", "-d", str(Path(scratch, "trees")),
                     str(Path(scratch, "docs")), str(site)])  # fmt: skip


if __name__ == "__main__":
    site = Path(*sys.argv[1:]) if sys.argv[1:] else ROOT / "site"
    code = build(site)
    print(f"{site}/index.html" if code == 0 else "The site was not built: see above.")
    sys.exit(code)
