"""The documentation site: every page is in its navigation, every link exists, nothing is loaded from elsewhere."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import twofold
from scripts import make_pictures, make_site, site_pages
from twofold.cli.main import VERBS

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^ *```.*?^ *```[ ]*$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return {page: text() for page, text in site_pages.GENERATED.items()}


@pytest.fixture(scope="module")
def pages(generated: Mapping[str, str]) -> dict[str, str]:
    """Every page of the site by its path below docs/, without blocks of code."""
    written = {path.relative_to(site_pages.DOCS).as_posix(): path.read_text(encoding="utf-8")
               for path in site_pages.DOCS.rglob("*.md")}  # fmt: skip
    return {page: _BLOCK.sub("", text) for page, text in {**written, **generated}.items()}


def anchors(text: str) -> set[str]:
    counted: Counter[str] = Counter()
    found = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        slug = site_pages.slug(heading)
        found.add(f"{slug}-{counted[slug]}" if counted[slug] else slug)
        counted[slug] += 1
    return found


def dead(pages: Mapping[str, str]) -> Iterator[str]:
    """Each relative link whose file or anchor does not exist."""
    for page, text in pages.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            if "://" in link or link.startswith("mailto:"):
                continue
            path, _, anchor = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
            exists = target in pages or (site_pages.DOCS / target).exists()
            if not exists or (anchor and target in pages and anchor not in anchors(pages[target])):
                yield f"{page}: {link}"


def test_every_page_is_in_the_navigation_once(pages: Mapping[str, str]) -> None:
    listed = Counter(page for section in site_pages.navigation().values() for page in site_pages.listed(section))
    assert sorted(pages.keys() - {"index.md", "package.md"} - listed.keys()) == [], "name them in docs/nav.yaml"
    assert sorted(set(listed.elements()) - pages.keys()) == [], "docs/nav.yaml names pages that do not exist"
    assert [page for page, count in listed.items() if count > 1] == []


def test_every_link_of_the_docs_is_alive(pages: Mapping[str, str]) -> None:
    assert list(dead(pages)) == []


def test_a_dead_link_and_a_dead_anchor_are_noticed() -> None:
    pages = {
        "a.md": "# One `two`\n[x](b.md) [y](#one-two) [z](c/d.md#e) [w](recipe.md)",
        "c/d.md": "# Not\n[x](../a.md#one)",
    }
    assert list(dead(pages)) == ["a.md: b.md", "a.md: c/d.md#e", "c/d.md: ../a.md#one"]


def test_the_generated_pages_hold_every_verb_name_and_recipe(generated: Mapping[str, str]) -> None:
    command_line, names, gallery = generated.values()
    assert [verb for verb in VERBS if f"\n## twofold {verb}\n" not in command_line] == []
    assert "| `--processes <int range>` | Processes of this machine" in command_line
    assert [name for name in dir(twofold) if name[0] != "_" and f"twofold.{name}" not in names] == []
    assert "| `twofold.DPO` | [objectives/dpo.md](objectives/dpo.md) |" in names
    recipes = [path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")]
    assert [path for path in recipes if f"\n### {path}\n" not in gallery] == []
    assert "objective: {kind: dpo, nll: 1.0}" in gallery


def test_a_page_becomes_a_page_of_the_site() -> None:
    page = "[r](../../recipes/objectives/dpo.yaml) [m](../../Makefile) [d](../data.md)\n```python a/b.py\n[r](x)\n```\n"
    prose = "[r](../gallery.md#objectivesdpoyaml) m [d](../data.md)\n"
    block = "```{code-block} python\n:caption: a/b.py\n"
    assert site_pages.for_site(page, "objectives/x.md") == f"{prose}{block}\n[r](x)\n```\n"
    assert "[m](https://h/r/blob/main/Makefile)" in site_pages.for_site(page, "objectives/x.md", "https://h/r")


def test_the_navigation_becomes_tables_of_contents() -> None:
    tables = make_site.tables()
    assert ":caption: Tutorial\n/tutorial/first-hour.md\n" in tables["index.md"]
    assert "\n/objectives/dpo.md\n" in tables["objectives/README.md"]
    assert "objectives/derivation.md" not in tables["objectives/README.md"]  # it has a line of its own


def test_the_numbers_of_dpo_in_pictures() -> None:
    """Those of docs/dpo-in-pictures.md, from the functions that draw its curves."""
    for beta, share in ((2.0, 0.33), (0.5, 0.73)):
        assert make_pictures.optimum(beta)[2].item() == pytest.approx(share, abs=0.005)
        assert make_pictures.trained(beta).tolist() == pytest.approx(make_pictures.optimum(beta).tolist(), abs=1e-4)
    plain, anchored = (make_pictures.displaced(nll)[-1].exp().tolist() for nll in (0.0, 1.0))
    assert plain == pytest.approx([0.11, 0.0, 0.45, 0.45], abs=0.005)
    assert anchored[0] == pytest.approx(0.96, abs=0.005)
    page = (site_pages.DOCS / "dpo-in-pictures.md").read_text(encoding="utf-8")
    assert [name for name in make_pictures.PICTURES if f"(pictures/{name}.svg)" not in page] == []
    assert {path.stem for path in make_pictures.FOLDER.glob("*.svg")} == make_pictures.PICTURES.keys()


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="no Sphinx: pip install 'twofold[docs]'")
    command = [sys.executable, str(ROOT / "scripts" / "make_site.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    html = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    loaded = re.compile(
        r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+href="(?:https?:)?//|@import|url\(["\']?http'
    )
    files = html | {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.css")}
    assert [str(path) for path, text in files.items() if loaded.search(text)] == []
    index = (tmp_path / "searchindex.js").read_text(encoding="utf-8")
    listed = [page for section in site_pages.navigation().values() for page in site_pages.listed(section)]
    assert [page for page in listed if page.removesuffix(".md") not in index] == []
