"""A release, prepared: `python scripts/release.py` checks the tree and the version, builds, and writes the notes.

It publishes nothing by itself. With `--publish` it uploads the two files to the package index with twine, which reads
its token from its own configuration, and tags the commit; it pushes no tag.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it must find `scripts`

from scripts.package import ROOT, Fault, call, check

HEADING = re.compile(r"^## +(\S+).*$", re.MULTILINE)


def notes(changelog: str) -> tuple[str, str]:
    """The newest version in a changelog, and its section without the heading."""
    headings = list(HEADING.finditer(changelog))
    if not headings:
        raise Fault("CHANGELOG.md: has no heading with a version (`## 1.2.3`)")
    end = headings[1].start() if len(headings) > 1 else len(changelog)
    return headings[0][1], changelog[headings[0].end() : end].strip() + "\n"


def versions(root: Path) -> dict[str, str]:
    """The version in each file that has one."""
    module = (root / "twofold" / "version.py").read_text(encoding="utf-8")
    return {
        "pyproject.toml": _project(root)["version"],
        "twofold/version.py": re.findall(r'__version__ = "(.+)"', module)[0],
        "CITATION.cff": yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))["version"],
        "CHANGELOG.md": notes((root / "CHANGELOG.md").read_text(encoding="utf-8"))[0],
    }


def refuse_unready(root: Path) -> str:
    """The version to release; raise Fault where the tree has changes, or files name different versions."""
    if changed := call("git", "status", "--porcelain", cwd=root).splitlines():
        raise Fault(f"the tree has {len(changed)} uncommitted changes: {', '.join(line[3:] for line in changed[:5])}")
    here = versions(root)
    if len(set(here.values())) > 1:
        raise Fault("versions differ: " + ", ".join(f"{file} has {version}" for file, version in here.items()))
    return here["pyproject.toml"]


def refuse_unpublishable(root: Path, version: str) -> None:
    """Raise Fault where an index would get a package without an address, or a version that has a tag."""
    if not _project(root).get("urls"):
        raise Fault("pyproject.toml: has no [project.urls]; add the address of the repository before you publish")
    if call("git", "tag", "--list", f"v{version}", cwd=root).strip():
        raise Fault(f"the tag v{version} exists; raise the version in CHANGELOG.md and the other files")


def _project(root: Path) -> dict[str, str]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def prepare(out: Path, publish: bool) -> None:
    version = refuse_unready(ROOT)
    if publish:
        refuse_unpublishable(ROOT, version)
    if out.exists() and any(out.iterdir()):
        raise Fault(f"{out}: holds files; remove them, or name another folder with --out")
    packages = check(out)
    call(sys.executable, "-m", "twine", "check", "--strict", *packages)
    text = notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))[1]
    (out / "notes.md").write_text(f"# twofold {version}\n\n{text}", encoding="utf-8")
    print(f"{version}: {', '.join(path.name for path in packages)} and notes.md are in {out}")
    if publish:
        call(sys.executable, "-m", "twine", "upload", "--non-interactive", *packages)
        call("git", "tag", f"v{version}")
        print(f"published. Push the tag: git push origin v{version}")
    else:
        print("nothing was published: --publish uploads them and tags the commit")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="an empty or a new folder")
    parser.add_argument("--publish", action="store_true", help="upload to the package index, and tag the commit")
    options = parser.parse_args(arguments)
    try:
        prepare(options.out.resolve(), options.publish)
    except Fault as fault:
        print(f"release: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
