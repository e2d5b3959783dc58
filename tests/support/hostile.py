"""Hostile texts, and a page read as a browser reads it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from twofold.reports.html import write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "</style><img src=x onerror=alert(3)>",
    "\"><svg onload=alert(4)>",
    "' onmouseover='alert(5)",
    "{{ 7 * 191 }}{% raw %}",
    "<iframe src=http://evil.example/x></iframe>",
    "$\\frac{1}{0}$ & \x00\x1b[31m \ud800 \u202e",
)  # fmt: skip


class Elements(HTMLParser):
    """Collects tags, attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(runs: list[Path], tmp_path: Path, title: str = "") -> str:
    return write_report(runs, tmp_path / "out" / "report.html", title).read_text(encoding="utf-8")
