"""Every page in Chinese has the commands, code, links and figures of its page in English."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.zh.md"), *(ROOT / "docs").rglob("*.zh.md")])
_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[list[str]]:
    """Each block of code by line, without comments."""
    return [[re.sub(r"(^|\s+)# .*", "", line).rstrip() for line in b.splitlines()] for b in _BLOCK.findall(page)]


def spans(page: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`\n]+)`", _BLOCK.sub("", page)))


def links(page: str) -> list[str]:
    found = re.findall(r"\]\(([^)]*)\)", _BLOCK.sub("", page))
    return sorted(link.replace(".zh.md", ".md") for link in found if "README" not in link or "/" in link)


def figures(page: str) -> Counter[str]:
    prose = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", _BLOCK.sub("", page))
    return Counter(re.findall(r"\d+(?:[.,]\d+)*(?:e[-−]\d+)?", prose))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_translation_has_the_same_commands_links_and_figures(page: Path) -> None:
    english = page.with_name(page.name.replace(".zh.md", ".md")).read_text(encoding="utf-8")
    chinese = page.read_text(encoding="utf-8")
    assert commands(chinese) == commands(english)
    assert spans(chinese) == spans(english)
    assert links(chinese) == links(english)
    assert figures(chinese) == figures(english)


def test_the_readme_is_translated_and_a_changed_figure_is_noticed() -> None:
    assert ROOT / "README.zh.md" in PAGES
    assert figures("grows 3.7 [3.4, 5.1] times, p 9.3e-62") == Counter(["3.7", "3.4", "5.1", "9.3e-62"])
    assert commands("```\nrun a  # one\n```") == commands("```\nrun a  # 一\n```") != commands("```\nrun b\n```")
    assert links("[a](x.md) [b](README.md)") == links("[甲](x.zh.md)") == ["x.md"]
