"""The blocks of docs/extend.md, and what they add to a copy of the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A block of the page; one with a `path` is a file, or lines to add to one."""

    language: str
    path: str
    text: str


def blocks(root: Path, section: str) -> list[Block]:
    page = (root / "docs" / "extend.md").read_text(encoding="utf-8")
    text = page.split(f"\n## {section}", 1)[1].split("\n## ", 1)[0]
    return [Block(*found) for found in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def sections(root: Path) -> list[str]:
    return re.findall(r"^## (.+)$", (root / "docs" / "extend.md").read_text(encoding="utf-8"), re.MULTILINE)


def patched(text: str, diff: str) -> str:
    """`text` with the `+` lines of `diff` where its context lines stand, and without the `-` lines."""
    lines, at = text.splitlines(), 0
    for mark, line in ((line[0], line[1:]) for line in diff.splitlines() if line != " …"):
        if mark == "+":
            lines.insert(at, line)
            at += 1
        else:
            at = lines.index(line, at) + (mark == " ")
            del lines[at : at + (mark == "-")]
    return "\n".join(lines) + "\n"


def write_blocks(folder: Path, some: list[Block]) -> None:
    for language, path, text in (block for block in some if block.path):
        file = folder / path
        file.write_text(patched(file.read_text(encoding="utf-8"), text) if language == "diff" else text, "utf-8")
