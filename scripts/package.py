"""The wheel and the sdist, checked: `make package` builds both twice and runs the wheel in a new environment.

SOURCE_DATE_EPOCH is the time of the last commit, or what the environment holds. The new environment borrows the
dependencies of this one, so nothing of theirs is downloaded. Whatever is wrong ends it with one line and status 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
JUNK = {"__pycache__", ".pytest_cache", ".ruff_cache", ".git", ".venv", "tests", "benchmarks", "experiments", "scripts"}
COMMANDS = (("--version",), ("demo", "--help"), ("doctor",))


class Fault(Exception):
    """What is wrong with a package, in one line."""


def call(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a program and return what it prints; raise Fault with its last lines where it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise Fault(f"{' '.join(map(str, command))}: status {done.returncode}\n{tail}")
    return done.stdout


def commit_time() -> str:
    """The time of every file in a package."""
    return os.environ.get("SOURCE_DATE_EPOCH") or call("git", "log", "-1", "--format=%ct").strip()


def build(out: Path) -> list[Path]:
    """The sdist, and the wheel that is built from it."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": commit_time()}
    call(sys.executable, "-m", "build", "--outdir", out, ROOT, env=env)
    return sorted(out.glob("twofold-*"))


def committed() -> set[str]:
    """The files of the package that git has."""
    return set(call("git", "ls-files", "twofold").split("\n")) - {""}


def members(path: Path) -> set[str]:
    """The names in a wheel, or in an sdist without its folder."""
    if path.suffix == ".whl":
        return set(zipfile.ZipFile(path).namelist())
    with tarfile.open(path) as sdist:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in sdist.getnames()}


def check_contents(path: Path, expected: set[str]) -> None:
    """Raise Fault for a file of the package that is missing, and for what does not belong there."""
    names = members(path)
    if missing := sorted(expected - names):
        raise Fault(f"{path.name}: {len(missing)} files are missing: {', '.join(missing[:5])}")
    junk = [name for name in sorted(names) if JUNK & set(PurePosixPath(name).parts)]
    junk += [name for name in sorted(names) if name.startswith("twofold/") and name not in expected]
    if junk:
        raise Fault(f"{path.name}: holds {', '.join(junk[:5])}")


def check_installed(wheel: Path, scratch: Path) -> str:
    """Install the wheel into a new environment, run it there, and return its version."""
    venv.create(scratch / "venv", with_pip=False)
    python = scratch / "venv" / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", wheel)
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    place = call(python, "-I", "-c", "import twofold; print(twofold.__file__)", cwd=scratch).strip()
    if not place.startswith(str(site)):
        raise Fault(f"{wheel.name}: the new environment imports {place}")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    printed = [call(python.parent / "twofold", *command, cwd=scratch, env=env) for command in COMMANDS]
    return printed[0].split()[-1]


def check(out: Path) -> list[Path]:
    """Build into `out`, and raise Fault unless a second build is equal and the wheel works."""
    packages, expected = build(out), committed()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        digests = [[sha256(path.read_bytes()).hexdigest() for path in made] for made in (packages, build(scratch))]
        if digests[0] != digests[1]:
            raise Fault(f"two builds differ: {digests[0]} and {digests[1]}")
        for path in packages:
            check_contents(path, expected)
        version = check_installed(next(path for path in packages if path.suffix == ".whl"), scratch)
    if f"twofold-{version}" not in packages[0].name:
        raise Fault(f"{packages[0].name}: `twofold --version` prints {version}")
    return packages


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="an empty or a new folder")
    out = parser.parse_args(arguments).out.resolve()
    try:
        if out.exists() and any(out.iterdir()):
            raise Fault(f"{out}: holds files; remove them, or name another folder with --out")
        for path in check(out):
            print(f"{sha256(path.read_bytes()).hexdigest()}  {path.name}  {path.stat().st_size:,} bytes")
    except Fault as fault:
        print(f"package: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
