"""What a package index and a newcomer read first: metadata without broken links, and where to begin."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import package, release
from scripts.package import Fault
from twofold.version import __version__


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


def test_every_file_names_the_same_version_and_the_notes_are_its_section(root: Path) -> None:
    assert set(release.versions(root).values()) == {__version__}
    version, text = release.notes("# Changes\n\nWords.\n\n## 0.2.0 (soon)\n\n- new\n\n## 0.1.0\n\n- old\n")
    assert (version, text) == ("0.2.0", "- new\n")
    with pytest.raises(Fault, match="no heading"):
        release.notes("# Changes\n")


def repository(folder: Path, version: str) -> Path:
    """A clean repository whose changelog is at `version`, and whose other files are at 0.1.0."""
    (folder / "twofold").mkdir()
    (folder / "twofold" / "version.py").write_text('__version__ = "0.1.0"\n')
    (folder / "pyproject.toml").write_text('[project]\nname = "twofold"\nversion = "0.1.0"\n')
    (folder / "CITATION.cff").write_text("version: 0.1.0\n")
    (folder / "CHANGELOG.md").write_text(f"## {version}\n\n- a change\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "all")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_a_release_is_refused_until_all_is_ready(tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    (tmp_path / "other").mkdir()
    ready = repository(tmp_path / "same", "0.1.0")
    assert release.refuse_unready(ready) == "0.1.0"
    with pytest.raises(Fault, match=r"no \[project\.urls\]"):
        release.refuse_unpublishable(ready, "0.1.0")
    (ready / "new.txt").write_text("")
    with pytest.raises(Fault, match=r"1 uncommitted changes: new\.txt"):
        release.refuse_unready(ready)
    with pytest.raises(Fault, match=r"versions differ: .*CHANGELOG\.md has 0\.2\.0"):
        release.refuse_unready(repository(tmp_path / "other", "0.2.0"))


def test_a_package_that_lacks_a_file_or_holds_another_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "twofold-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as written:
        written.writestr("twofold/a.py", "")
        written.writestr("twofold/b.py~", "")
    package.check_contents(wheel, {"twofold/a.py", "twofold/b.py~"})
    with pytest.raises(Fault, match=r"1 files are missing: twofold/page\.jinja"):
        package.check_contents(wheel, {"twofold/a.py", "twofold/b.py~", "twofold/page.jinja"})
    with pytest.raises(Fault, match=r"holds twofold/b\.py~"):
        package.check_contents(wheel, {"twofold/a.py"})


def test_a_citation_has_what_its_format_requires(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    for form in (root / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        body = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= body.keys()
        assert all(part["attributes"]["label"] for part in body["body"])


@pytest.mark.slow
def test_two_builds_are_equal_and_the_wheel_runs_in_a_new_environment(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="the package build is not installed: pip install -e '.[release]'")
    made = package.check(tmp_path)
    assert [path.name for path in made] == [f"twofold-{__version__}-py3-none-any.whl", f"twofold-{__version__}.tar.gz"]
    wheel = zipfile.ZipFile(made[0])
    about = message_from_bytes(wheel.read(f"twofold-{__version__}.dist-info/METADATA"))
    assert (about["Name"], about["Requires-Python"], about["License-Expression"]) == ("twofold", ">=3.11", "Apache-2.0")
    assert "# twofold" in about.get_payload()
    assert {"docs", "gguf", "math", "ray", "wandb"} <= set(about.get_all("Provides-Extra", []))
    assert about.get_all("License-File") == ["LICENSE"]
    assert len(about.get_all("Classifier", [])) > 5
