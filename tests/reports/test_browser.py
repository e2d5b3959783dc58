"""The page in a real browser: hostile texts do nothing, nothing is asked for, it fits a phone, keys move through it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import devtools
from support.browsing import axe, faults, show
from support.explained import told as explained
from support.hostile import page as write_page
from support.made_up_runs import Make, lines, sample
from twofold.reports.explanation import write_explanation
from twofold.reports.guide import docs

__all__ = ["axe"]
HACK = "window.hacked=(window.hacked||0)+1"
HOSTILE = (
    f"<script>{HACK}</script>", f"</script><script>{HACK}</script>", f"</style><script>{HACK}</script>",
    f"</title><script>{HACK}</script>", f"--><script>{HACK}</script>", f"]]><script>{HACK}</script>",
    f"<img src=x onerror='{HACK}'>", f'"><img src=x onerror="{HACK}">', f"'><svg onload='{HACK}'>",
    f"<svg><script>{HACK}</script></svg>", f"<svg><animate onbegin='{HACK}' attributeName=x dur=1s>",
    f"<body onload='{HACK}'>", f"<details open ontoggle='{HACK}'>", f"<input autofocus onfocus='{HACK}'>",
    f"<a href='javascript:{HACK}' id=settings>x</a>", f"<iframe srcdoc='<script>parent.{HACK}</script>'></iframe>",
    "<iframe src='https://evil.example/x'></iframe>", "<link rel=stylesheet href='https://evil.example/x.css'>",
    "<img src='https://evil.example/x.png'>", "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<base href='https://evil.example/'>", "<form action='https://evil.example/'><button>x", "<style>*{display:none}",
    "</main></body></html><h1>over</h1>", "<!--", "<plaintext>", "<textarea>", "{{ 7 * 191 }}{% raw %}",
    f"\x00<scr\x00ipt>{HACK}</scr\x00ipt>\x1b[31m\ud800\u202e", f"&lt;script&gt;{HACK}&lt;/script&gt;%3Cscript%3E",
    f"`;{HACK};//", f"x\" style=\"background:url(https://evil.example/)\" onmouseover=\"{HACK}",
)  # fmt: skip


def hostile_run(make_run: Make, number: int) -> Path:
    """A run in which every text that someone else may choose is one of HOSTILE, and all of them are answers."""
    run, text = make_run(f"run {number}"), HOSTILE[number % len(HOSTILE)]
    results = json.loads((run / "results.json").read_text())
    results |= {"name": text, "command": text, "warnings": list(HOSTILE)}
    results["models"].append({**results["models"][1], "name": text, text: results["models"][1]["strict"]})
    results["comparisons"].append({**results["comparisons"][0], "a": text, "metric": text, "test": text})
    (run / "results.json").write_text(json.dumps(results))
    texts = [dict.fromkeys(("name", "prompt", "completion", "answer"), h) for h in HOSTILE]
    lines(run / "samples.jsonl", [{**sample(s, 1, s > 0), **t} for s in (0, 40) for t in texts])
    tokens = [{"text": h, "credit": (-1) ** i} for i, h in enumerate(HOSTILE)]
    row = {"name": text, "prompt": text, "completions": [{"label": text, "reward": 1.0, "tokens": tokens}]}
    (run / "explain.json").write_text(json.dumps({"n": 1, "rows": [row]}))
    (run / "win_rates.json").write_text(json.dumps([
        {"against": text, "temperature": t, "value": 0.5, "low": 0.4, "high": 0.6, "n": 9} for t in (0, 1)
    ]))  # fmt: skip
    (run / "frontier.json").write_text(json.dumps([{"of": text, "kl": k, "reward": k} for k in (0, 1)]))
    (run / "environment.json").write_text(json.dumps(dict.fromkeys(HOSTILE, text)))
    model = json.dumps({"model": {"path": text}, text: text, "objective": {"kind": text}})
    (run / "resolved.yaml").write_text(f"# {text}\n".replace("\x00", "").replace("\x1b", "") + model, errors="replace")
    return run


def test_hostile_texts_do_nothing_in_a_browser(make_run: Make, tmp_path: Path, browser: devtools.Page) -> None:
    assert len(HOSTILE) >= 30
    runs = [hostile_run(make_run, number) for number in range(3)]
    write_page(runs, tmp_path, HOSTILE[3])
    show(browser, tmp_path / "out" / "report.html")
    browser.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    browser.ask("document.querySelectorAll('article, button, a, summary').forEach((e) => { e.focus(); })")
    browser.ask("document.querySelectorAll('[title], .text').forEach((e) => e.dispatchEvent(new Event('mouseover')))")
    assert browser.ask("window.hacked === undefined")
    assert browser.log == []
    assert browser.requests == [(tmp_path / "out" / "report.html").as_uri()]
    assert browser.ask("document.querySelectorAll('script').length") == 1
    assert browser.ask("document.querySelectorAll('iframe, img, input, form, link, textarea, base').length") == 0
    assert browser.ask("document.getElementById('settings').tagName") == "SECTION"
    assert "1337" not in browser.ask("document.body.innerText")
    texts = browser.ask("[...document.querySelectorAll('#answers .text')].map((e) => e.textContent)")
    assert {h for h in HOSTILE if h.isprintable() and h.isascii()} <= set(texts)


def hostile_explanation(folder: Path, number: int) -> Path:
    """The page of `twofold explain` with every text that someone else may choose hostile: of each row another one."""
    text = HOSTILE[number % len(HOSTILE)]
    told = explained(*HOSTILE)
    told["displacement"]["verdict"] = told["displacement"]["remedy"] = text
    (said, _), row = told["rows"][0]["completions"], told["rows"][0]
    told["rows"] = [{**row, "name": h, "prompt": h, "completions": [{**said, "label": h}]} for h in HOSTILE]
    file = folder / f"explain-{number}.html"
    return write_explanation(told, file, title=text, facts=HOSTILE)


def test_hostile_texts_do_nothing_in_an_explanation(tmp_path: Path, browser: devtools.Page) -> None:
    for number in range(6):
        file = hostile_explanation(tmp_path, number)
        show(browser, file)
        browser.ask("document.querySelectorAll('.t').forEach((e) => { e.focus(); })")
        browser.ask("document.querySelectorAll('.t, h1, h3').forEach((e) => e.dispatchEvent(new Event('mouseover')))")
        assert browser.ask("window.hacked === undefined")
        assert browser.log == []
        assert browser.requests == [file.as_uri()]
        assert browser.ask("document.querySelectorAll('script').length") == 1
        assert browser.ask("document.querySelectorAll('iframe, img, input, form, link, textarea, base').length") == 0
        links = browser.ask("[...document.querySelectorAll('a')].map((e) => e.href)")
        assert [link for link in links if not link.startswith(docs())] == []
        assert "1337" not in browser.ask("document.body.innerText")
    texts = browser.ask("[...document.querySelectorAll('.t')].map((e) => e.firstChild.textContent)")
    assert {h for h in HOSTILE if h.isprintable() and h.isascii() and len(h) <= 80} <= set(texts)


def test_arrows_move_from_token_to_token(tmp_path: Path, browser: devtools.Page) -> None:
    file = write_explanation(explained("one ", "two ", "three"), tmp_path / "explain.html", title="t", facts=["f"])
    show(browser, file)
    assert browser.ask("document.querySelectorAll('.t[tabindex=\"0\"]').length") == 2
    browser.ask("document.querySelector('.t').focus()")
    told = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "Home"):
        browser("Input.dispatchKeyEvent", type="keyDown", key=key)
        told.append(browser.ask("document.activeElement.firstChild.textContent"))
    assert told == ["two ", "three", "three", "two ", "one "]
    assert browser.ask("getComputedStyle(document.activeElement.querySelector('small')).display") == "block"


def test_an_explanation_prints_without_what_hovers(tmp_path: Path, browser: devtools.Page) -> None:
    file = write_explanation(explained("one ", "two "), tmp_path / "explain.html", title="t", facts=["f"])
    show(browser, file)
    browser.ask("document.querySelector('.t').focus()")
    browser("Emulation.setEmulatedMedia", media="print")
    looks = "getComputedStyle(document.querySelector('.t'))"
    assert browser.ask("getComputedStyle(document.querySelector('.t small')).display") == "none"
    assert browser.ask(f"{looks}.printColorAdjust || {looks}.webkitPrintColorAdjust") == "exact"
    browser("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("width", [320, 390, 1366])
def test_an_explanation_fits_its_screen(tmp_path: Path, browser: devtools.Page, width: int) -> None:
    file = write_explanation(
        explained(*["word " * 3, "x" * 200]), tmp_path / "explain.html", title="t" * 90, facts=["f" * 90]
    )
    show(browser, file, width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.log == []


@pytest.mark.parametrize("width", [320, 390, 1366])
def test_a_page_fits_its_screen(make_run: Make, tmp_path: Path, browser: devtools.Page, width: int) -> None:
    write_page([make_run("a" * 60, solved=(10, 20)), make_run("b", extra={"draft_kl": 0.1})], tmp_path)
    show(browser, tmp_path / "out" / "report.html", width)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelector('.lead').getBoundingClientRect().top") < 844
    assert browser.log == []


@pytest.mark.parametrize("width", [320, 390])
def test_no_column_of_the_paired_tests_is_cut_on_a_phone(
    make_run: Make, tmp_path: Path, browser: devtools.Page, width: int
) -> None:
    """Two runs, whose tests have Holm's column too; every cell is on the screen, behind its column's name."""
    write_page([make_run(name, solved=(10, n), problems=1000) for name, n in (("DPO", 970), ("PDPO", 980))], tmp_path)
    show(browser, tmp_path / "out" / "report.html", width)
    table = "[...document.querySelectorAll('#results .scroll')].find((e) => e.innerText.includes('McNemar'))"
    assert browser.ask(f"{table}.scrollWidth") <= browser.ask(f"{table}.clientWidth")
    cells = f"[...{table}.querySelectorAll('tbody tr:first-child td')]"
    assert browser.ask(f"{cells}.every((e) => e.getBoundingClientRect().right <= {width} && e.offsetHeight > 0)")
    names = browser.ask(f"{cells}.slice(1).map((e) => getComputedStyle(e, '::before').content)")
    assert names == [f'"{name} "' for name in ("metric", "p", "by Holm", "only first", "only second", "test")]


def test_keys_and_filters_move_through_the_answers(make_run: Make, tmp_path: Path, browser: devtools.Page) -> None:
    write_page([make_run("a", solved=(15, 30))], tmp_path)
    show(browser, tmp_path / "out" / "report.html")
    label = "document.activeElement.getAttribute('aria-label')"

    def press(key: str) -> str:
        for kind in ("keyDown", "keyUp"):
            browser("Input.dispatchKeyEvent", type=kind, key=key, **({"text": key} if kind == "keyDown" else {}))
        return browser.ask(label)

    assert [press(key) for key in "jjk"] == ["test.jsonl:16", "test.jsonl:17", "test.jsonl:16"]
    browser.ask("document.querySelector('button[value=lost]').click()")
    assert browser.ask(
        "[...document.querySelectorAll('article:not([hidden])')].every((a) => a.dataset.outcome === 'lost')"
    )
    assert browser.ask("document.querySelector('button[value=lost]').getAttribute('aria-pressed')") == "true"
    assert press("j") == "test.jsonl:1"


def test_what_is_folded_is_printed_but_for_the_many_answers(
    make_run: Make, tmp_path: Path, browser: devtools.Page
) -> None:
    write_page([make_run("a", extra={"draft_kl": 0.1}), make_run("b")], tmp_path)
    show(browser, tmp_path / "out" / "report.html")
    folded = "document.querySelectorAll('details:not([open])').length"
    before = browser.ask(folded)
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("[...document.querySelectorAll('details:not([open])')].every((d) => d.className === 'more')")
    browser.ask("dispatchEvent(new Event('afterprint'))")
    assert browser.ask(folded) == before > 1


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1366])
def test_axe_finds_no_fault(
    make_run: Make, tmp_path: Path, browser: devtools.Page, axe: str, width: int, scheme: str
) -> None:
    runs = [make_run("a", solved=(10, 9)), make_run("b", extra={"draft_kl": 0.1, "truncated": 0.5})]
    credits = [{"text": f"token {i} ", "credit": i / 10} for i in range(-10, 11)]
    rows: dict[str, Any] = {"rows": [{"completions": [{"label": "chosen", "reward": 0.0, "tokens": credits}]}]}
    (runs[0] / "explain.json").write_text(json.dumps(rows))
    write_page(runs, tmp_path)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    show(browser, tmp_path / "out" / "report.html", width)
    assert faults(browser, axe) == []
    file = write_explanation(explained("one ", "two "), tmp_path / "explain.html", title="title", facts=["a fact"])
    show(browser, file, width)
    assert faults(browser, axe) == []
