"""The lock file holds what is tested, with hashes; the audit names pins with a notice, and what it does not know."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

from scripts import audit

NOTICE = {"id": "X-1", "package": "some-thing", "fixed": "2.10", "what": "it breaks"}


def test_the_lock_holds_every_dependency_at_the_tested_version(root: Path) -> None:
    pinned = audit.pins(audit.LOCK.read_text(encoding="utf-8"))
    tested = audit.pins((root / "constraints.txt").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split("[>=<]", line)[0].lower() for line in project["dependencies"]}
    assert needed <= pinned.keys()
    assert {name: tested[name] for name in pinned if name in tested} == {n: v for n, v in pinned.items() if n in tested}


def test_every_pin_has_a_hash() -> None:
    text = audit.LOCK.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "==" in line]
    assert len(lines) > 50
    assert not [line for line in lines if "--hash=sha256:" not in line]


@pytest.mark.parametrize(
    ("version", "fixed", "expected"),
    [
        ("2.9", "2.10", ["some-thing 2.9: X-1: it breaks (fixed in 2.10)"]),
        ("2.10", "2.10", []),
        ("2.9", "", ["some-thing 2.9: X-1: it breaks (no fix yet)"]),
    ],
)
def test_a_pin_with_a_notice_is_named(version: str, fixed: str, expected: list[str]) -> None:
    pinned = audit.pins(f"Some_Thing=={version} ; python_version > '3' \\\n    --hash=sha256:00\nother==1 \\\n")
    assert list(audit.findings(pinned, [{**NOTICE, "fixed": fixed}])) == expected


def test_an_answer_is_recorded_with_its_day() -> None:
    vuln = {"id": "X-2", "fix_versions": ["1.10", "1.9"], "description": "it\nfails"}
    answer = {"dependencies": [{"name": "a", "vulns": [vuln]}, {"name": "b", "skip_reason": "not there"}]}
    known = audit.recorded(answer, date(2026, 1, 2))
    assert known["advisories"] == [{"id": "X-2", "package": "a", "fixed": "1.9", "what": "it fails"}]
    assert (known["recorded"], known["complete"]) == ("2026-01-02", False)


def test_an_answer_without_anything_looked_up_is_refused() -> None:
    with pytest.raises(ValueError, match="was there a connection"):
        audit.recorded({"dependencies": [{"name": "b", "skip_reason": "not there"}]}, date(2026, 1, 2))


def test_the_audit_says_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main([]) == 0
    said = capsys.readouterr().out
    assert "pins against" in said
    assert ("not complete" in said) == ('"complete": false' in audit.KNOWN.read_text(encoding="utf-8"))
