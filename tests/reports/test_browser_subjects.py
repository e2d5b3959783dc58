"""The pages of `twofold explain` and `twofold data report` in a browser: values, files, Chinese, phones, axe."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import devtools
from support.browsing import axe, cut, faults, show
from support.made_up_runs import Make
from support.subject_pages import data_page, explain_page

__all__ = ["axe"]
PAGES = ("explain", "data")
LEFT = """((but) => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), left = [];
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent, parent = walk.currentNode.parentElement;
    if (parent.closest(`script, code, button, a, svg, .t, .tip${but}`) || !parent.checkVisibility()) continue;
    if (/[A-Za-z]{2,}/.test(text) && !/[\\u4e00-\\u9fff]/.test(text)) left.push(text.trim());
  }
  return [...new Set(left)].sort();
})"""
"""English texts that the switch to Chinese leaves, but for those in elements of a selector."""


@pytest.fixture
def pages(make_run: Make, tmp_path: Path) -> dict[str, Path]:
    run = make_run("a", extra={"gradient_weight": 0.4, "gradient_weight_std": 0.1})
    return {"explain": explain_page(tmp_path / "explain.html", run), "data": data_page(tmp_path / "data.html")}


def test_figures_answer_and_every_text_is_chinese(pages: dict[str, Path], browser: devtools.Page) -> None:
    show(browser, pages["data"], 1280)
    figure = "figures.find((f) => f.node.dataset.name === 'Length of answers')"
    browser.ask(f"{figure}.svg.focus()")
    browser("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight")
    assert browser.ask(f"{figure}.tip.innerText").split("\n") == [
        "characters 0 – 4", "chosen: 0%", "rejected: 0%",
    ]  # fmt: skip
    lines = browser.ask(f"csv({figure}).trim().split('\\n')")
    assert (lines[0], lines[1], len(lines)) == ("line,from,to,value", "chosen,0,4,0", 45)
    assert "var(" not in browser.ask(f"picture({figure})")
    browser.ask("document.querySelector('button[value=zh]').click()")
    assert browser.ask(f"{LEFT}(', summary, .side')") == ["Latin", "chosen", "chosen、rejected", "rejected"]

    show(browser, pages["explain"], 1280)
    assert browser.ask("figures.map((f) => f.node.dataset.name)") == [
        "Change by position", "Gradient weight", "Spread of gradient weights",
    ]  # fmt: skip
    browser.ask("document.querySelector('button[value=zh]').click()")
    assert browser.ask(f"{LEFT}('')") == ["chosen", "chosen、rejected", "rejected"]
    browser.ask("document.querySelector('button[value=seconds]').click()")
    assert browser.ask("figures[1].svg.classList.contains('redrawn')")
    assert browser.log == []
    assert browser.requests == [pages["explain"].as_uri()]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut(pages: dict[str, Path], browser: devtools.Page, name: str, width: int) -> None:
    show(browser, pages[name], width)
    for language in ("en", "zh"):
        browser.ask(f"document.querySelector('button[value={language}]').click()")
        assert cut(browser) == []
        assert browser.ask("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_fault(
    pages: dict[str, Path], browser: devtools.Page, axe: str, name: str, width: int, scheme: str
) -> None:
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    show(browser, pages[name], width)
    assert faults(browser, axe) == []
    browser.ask("document.querySelector('button[value=zh]').click()")
    assert faults(browser, axe) == []
