"""Figures in a real browser: values, axes, smoothing, files; the languages; what folds and what may not scroll."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support import devtools
from support.browsing import cut, show
from support.made_up_runs import Make, lines, sample
from twofold.reports.html import render
from twofold.reports.pages import write_page
from twofold.reports.run import read_run

CHAT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
LOSS = "figures.find((f) => f.node.dataset.name === 'Loss')"


def timed_run(make_run: Make, name: str) -> Path:
    """A run with chats, tokens and memory."""
    run = make_run(name, extra={"draft_kl": 0.1})
    timings = [
        {"step": s, "seconds": 2.0, "tokens": 1000, "tokens_per_second": 500.0, "memory_gib": 1.5} for s in range(40)
    ]
    lines(run / "timings.jsonl", timings)
    said = [{**sample(s, i, s > 0), "prompt": CHAT, "completion": "word " * 300} for s in (0, 40) for i in range(3)]
    lines(run / "samples.jsonl", said)
    return run


def test_figures_of_a_page_answer(make_run: Make, tmp_path: Path, browser: devtools.Page) -> None:
    """Values by arrow key; seconds and tokens; smoothing; CSV and SVG; Chinese and back; markup folded and shown."""
    file = write_page(tmp_path / "page.html", render([read_run(timed_run(make_run, "a"))], "a"))
    show(browser, file, 1280)

    def read(value: str, key: str = "ArrowRight") -> str:
        browser.ask(f"document.querySelector('[data-choice] button[value=\"{value}\"]').click()")
        browser.ask(f"{LOSS}.at = undefined; {LOSS}.svg.focus()")
        browser("Input.dispatchKeyEvent", type="keyDown", key=key)
        return browser.ask(f"{LOSS}.tip.innerText")

    assert read("step") == "step 0\nLoss: 0.69 (≈ 0.4217)"
    assert read("step", "ArrowLeft").startswith("step 39\nLoss: 0.01725 ")
    assert read("seconds", "ArrowLeft").startswith("time of training 78 s\n")
    assert read("tokens", "ArrowLeft").startswith("tokens trained on 39K\n")
    assert read("0") == "tokens trained on 0\nLoss: 0.69"
    assert (
        browser.ask(f"{LOSS}.svg.classList.contains('redrawn') && {LOSS}.overlay.querySelectorAll('path').length") == 1
    )
    assert browser.ask(f"csv({LOSS}).split('\\n').slice(0, 3)") == [
        "line,x,seconds,tokens,value,low,high", "Loss,0,0,0,0.69,,", "Loss,1,2,1000,0.345,,",
    ]  # fmt: skip
    picture = browser.ask(f"picture({LOSS})")
    assert browser.ask("new DOMParser().parseFromString(arguments0, 'image/svg+xml').documentElement.tagName".replace(
        "arguments0", json.dumps(picture))) == "svg"  # fmt: skip
    assert "var(" not in picture
    assert "currentColor" not in picture
    names = "[...document.querySelectorAll('h2')].map((e) => e.textContent)"
    english = browser.ask(names)
    browser.ask("document.querySelector('button[value=zh]').click()")
    assert browser.ask("document.documentElement.lang") == "zh"
    assert not set(browser.ask(names)) & set(english)
    assert read("step").startswith("步 0\n损失: 0.69")
    browser.ask("document.querySelector('button[value=en]').click()")
    assert browser.ask(names) == english
    turns = "[...document.querySelectorAll('article.side')][0].querySelector('.chat').innerText"
    assert browser.ask(turns).split() == ["system", "Be", "brief.", "user", "Hi?"]
    browser.ask("document.querySelector('[data-choice=markup] button').click()")
    assert "<|im_start|>assistant" in browser.ask(turns)
    assert browser.log == []
    assert browser.requests == [file.as_uri()]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_cut_and_no_card_scrolls(make_run: Make, tmp_path: Path, browser: devtools.Page, width: int) -> None:
    runs = [read_run(timed_run(make_run, name)) for name in ("a", "b" * 40)]
    show(browser, write_page(tmp_path / "page.html", render(runs, "a")), width)
    assert cut(browser) == []
    assert browser.ask("document.documentElement.scrollWidth") <= width
