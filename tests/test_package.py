"""What a package index and a newcomer read first: metadata without broken links, and where to begin."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_page_of_a_package_index_has_no_link_into_the_repository(root: Path, project: dict[str, Any]) -> None:
    page = (root / project["readme"]).read_text(encoding="utf-8")
    assert [link for link in re.findall(r"\]\(([^)]*)\)", page) if not link.startswith("https://")] == []
    assert "pip install twofold" in page


def test_addresses_in_the_metadata_are_addresses(project: dict[str, Any]) -> None:
    assert all(address.startswith("https://") for address in project.get("urls", {}).values())


def test_the_readme_says_where_to_begin(root: Path, project: dict[str, Any]) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    least = project["requires-python"].removeprefix(">=")
    for needed in ("git clone", "pip install", f"Python {least} or newer", ".venv/bin/twofold", "--require-hashes"):
        assert needed in readme, needed
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]*)\)", readme) if "://" not in link]
    assert links
    assert [link for link in links if link and not (root / link).exists()] == []
