"""Known security notices of the pinned packages, without a network: `python scripts/audit.py` reads requirements.lock
and the recorded scripts/advisories.json, and says how old and how complete that list is.

`make advisories` records the list anew: pip-audit asks the advisory service, and its answer is read by
`python scripts/audit.py --record ANSWER.json`. Exit code 1 for a pin with a notice, and for an answer without any.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK, KNOWN = ROOT / "requirements.lock", ROOT / "scripts" / "advisories.json"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(text: str) -> dict[str, str]:
    """Each package of a lock file, and its version."""
    return {name.lower().replace("_", "-"): version for name, version in PIN.findall(text)}


def findings(pinned: Mapping[str, str], advisories: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """A line for each pin that a notice is about."""
    for notice in advisories:
        version, fixed = pinned.get(notice["package"]), notice["fixed"]
        if version is not None and (not fixed or Version(version) < Version(fixed)):
            remedy = f"fixed in {fixed}" if fixed else "no fix yet"
            yield f"{notice['package']} {version}: {notice['id']}: {notice['what']} ({remedy})"


def recorded(answer: Mapping[str, Any], today: date) -> dict[str, Any]:
    """The list that an answer of pip-audit holds. Raises ValueError where it could look nothing up."""
    looked_up = [each for each in answer["dependencies"] if "vulns" in each]
    if not looked_up:
        raise ValueError("the advisory service knew none of the packages: was there a connection?")
    notices = [
        {"id": vuln["id"], "package": each["name"], "fixed": min(vuln["fix_versions"], key=Version, default=""),
         "what": " ".join(str(vuln.get("description", "")).split())[:120]}
        for each in looked_up for vuln in each["vulns"]
    ]  # fmt: skip
    complete = len(looked_up) == len(answer["dependencies"])
    return {"recorded": today.isoformat(), "complete": complete, "source": "pip-audit", "advisories": notices}


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--record"]:
        try:
            known = recorded(json.loads(Path(arguments[1]).read_text(encoding="utf-8")), date.today())
        except ValueError as error:
            print(f"audit: nothing recorded: {error}")
            return 1
        KNOWN.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    known, pinned = json.loads(KNOWN.read_text(encoding="utf-8")), pins(LOCK.read_text(encoding="utf-8"))
    found = list(findings(pinned, known["advisories"]))
    age = (date.today() - date.fromisoformat(known["recorded"])).days
    print(*found, sep="\n", end="\n" if found else "")
    told = f"{len(known['advisories'])} notices, recorded {age} days ago ({known['source']})"
    print(f"audit: {len(pinned)} pins against {told}: {len(found)}")
    if not known["complete"]:
        print("audit: this list is not complete; `make advisories` records all of them where there is a network")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
