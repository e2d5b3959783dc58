"""What tests of pages in a browser share: opening one, what is cut off on it, and axe's faults."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import devtools


def show(browser: devtools.Page, file: Path, width: int = 1366, height: int = 900) -> None:
    """Open `file` at this size and wait until it stands; nothing is left in the logs of what came before."""
    browser("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    browser("Page.navigate", url="about:blank")
    browser.log.clear()
    browser.requests.clear()
    browser("Page.navigate", url=file.as_uri())
    browser.wait(f"location.href === {json.dumps(file.as_uri())} && document.readyState === 'complete'")


def cut(browser: devtools.Page) -> Any:
    """What has to be scrolled within the page that is shown, all of it unfolded."""
    browser.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    scrolls = "['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.clientWidth"
    over = f"{scrolls} && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1)"
    found = f"[...document.querySelectorAll('body *')].filter((e) => {over})"
    return browser.ask(f"{found}.map((e) => e.outerHTML.slice(0, 90))")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core as the npm registry has it, in a folder that goes."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm on this machine: accessibility is not checked here")
    fetched = subprocess.run([npm, "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"axe-core cannot be fetched, accessibility is not checked here: {fetched.stderr[-200:]}")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


def faults(browser: devtools.Page, axe: str) -> Any:
    """What axe has to say of the page that is shown, all of it unfolded."""
    browser.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.ask(f"{axe}; true")
    told = "r.violations.map((v) => [v.id, ...v.nodes.map((n) => n.failureSummary)])"
    return json.loads(browser.ask(f"axe.run().then((r) => JSON.stringify({told}))"))
