"""The page is one safe, small, self-contained file, whatever a run holds."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from support.hostile import HOSTILE, Elements, page
from support.made_up_runs import Make, lines, sample
from twofold.errors import DataError
from twofold.reports.guide import docs
from twofold.reports.html import write_report
from twofold.reports.pages import clip

ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "h1", "h2", "h3", "ul",
    "li", "p", "b", "i", "u", "div", "span", "small", "code", "pre", "details", "summary", "table", "thead", "tbody",
    "tr", "th", "td", "figure", "figcaption", "svg", "g", "path", "defs", "use", "text", "clippath", "rect", "nav", "a",
    "mark", "kbd", "button", "script", "dl", "dt", "dd",
}  # fmt: skip
ATTRIBUTES = {"href", "src", "srcset", "action", "data", "poster", "formaction", "background"}


def check_safe(text: str) -> Elements:
    """No element, handler or link that the template did not write, and nothing to load."""
    elements = Elements(text)
    assert elements.tags <= ALLOWED
    assert not [a for a in elements.attributes if a[0].startswith("on")]
    links = [value for name, value in elements.attributes if name in ATTRIBUTES]
    assert all(value.startswith(("#", f"{docs()}/")) for value in links)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    [script] = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in text
    return elements


def test_the_page_of_two_runs_says_what_happened(make_run: Make, tmp_path: Path) -> None:
    runs = [make_run("DPO", solved=(10, 20)), make_run("PDPO", solved=(10, 30), extra={"draft_kl": 0.5})]
    text = check_safe(page(runs, tmp_path, "DPO and PDPO")).text
    for said in (
        "DPO and PDPO", "75.0%", "+50.0 points", "better, beyond chance", "base 25.0%", "What to worry about",
        "PDPO but not DPO solves 10 problems, DPO but not PDPO 0 (McNemar p = 0.002, 0.006 by Holm over 3 tests): "
        "PDPO is better.",
            "PDPO solves 75.0% of 40 problems, 50.0 points more than its base", "DPO comes next, beyond chance.",
        "held-out preference accuracy 80.0% (77.4 – 82.4%), 50.0% before training",
        "KL of samples from the reference", "wrong before, right after", "pairs.jsonl", "beta: 0.1",
        "twofold train PDPO.yaml", "last steps of training DPO PDPO margin 4 1.52 … 6.48",
    ):  # fmt: skip
        assert said in text


@pytest.mark.parametrize(("count", "shown"), [(1, 12_000), (2, 12_000), (3, 8_000)])
def test_long_recipes_are_cut_to_their_share_of_the_page(
    make_run: Make, tmp_path: Path, count: int, shown: int
) -> None:
    runs = [make_run(f"run {number}") for number in range(count)]
    (runs[0] / "resolved.yaml").write_text("# " + "é" * 30_000, encoding="utf-8")
    text = write_report(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    longest = max(map(len, re.findall("é+", text)))
    assert shown - 50 < longest <= shown


def test_runs_that_differ_in_their_seed_are_one_method(make_run: Make, tmp_path: Path) -> None:
    solved = ((10, 28), (10, 30), (10, 32))
    runs = [make_run(f"PDPO {i}", solved=s, extra={"gap": 0.1}, seed=i) for i, s in enumerate(solved)]
    text = check_safe(page([*runs, make_run("DPO")], tmp_path)).text
    assert "base 1 25.0% 14.2 – 40.2% – – PDPO 0 3 75.0% 62.6 – 87.4% +50.0 +37.6 … +62.4 DPO 1 75.0% unbounded" in text
    assert "Over seeds" not in check_safe(page(runs[:1], tmp_path)).text


def test_the_page_repeats(make_run: Make, tmp_path: Path) -> None:
    run = make_run("a")
    assert page([run], tmp_path) == page([run], tmp_path)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_stay_texts(make_run: Make, tmp_path: Path, hostile: str) -> None:
    run = make_run("run")
    results = json.loads((run / "results.json").read_text())
    results |= {"name": hostile, "command": hostile, "warnings": [hostile]}
    results["models"].append({**results["models"][1], "name": hostile, hostile: results["models"][1]["strict"]})
    results["comparisons"].append({**results["comparisons"][0], "a": hostile, "metric": hostile, "test": hostile})
    results["heldout"][hostile] = results["heldout"]["accuracy"]
    (run / "results.json").write_text(json.dumps(results))
    lines(run / "metrics.jsonl", [{"kind": "train", "step": 1, "loss": 0.5, hostile: 1.0}])
    texts = dict.fromkeys(("name", "prompt", "completion", "answer"), hostile)
    lines(run / "samples.jsonl", [{**sample(step, 1, step > 0), **texts} for step in (0, 40)])
    (run / "environment.json").write_text(json.dumps({hostile: hostile, "sha256": hostile, "source": hostile}))
    (run / "resolved.yaml").write_text(f"# {hostile}\nalgorithm: pdpo\n", errors="replace")
    elements = check_safe(page([run, run], tmp_path, hostile))
    assert " ".join(clip(hostile).encode(errors="replace").decode().split()) in elements.text
    assert "1337" not in elements.text


@pytest.mark.slow
def test_a_page_never_exceeds_two_megabytes(make_run: Make, tmp_path: Path) -> None:
    names = ("draft_reward", "truth_reward", "draft_logp", "draft_kl", "draft_length", "chosen_length", "gap", "active")
    runs = [make_run(f"run {i}", steps=300, extra=dict.fromkeys(names, 0.123456789)) for i in range(3)]
    for run in runs:
        texts = dict.fromkeys(("prompt", "completion", "answer"), "<&" * 50_000)
        lines(run / "samples.jsonl", [{**sample(s, i, i < 20 + s), **texts} for s in (0, 9) for i in range(40)])
        (run / "resolved.yaml").write_text("# " + "<&\n# " * 100_000)
        (run / "environment.json").write_text(json.dumps({f"k{i}": "<" * 9000 for i in range(500)}))
        results = json.loads((run / "results.json").read_text())
        (run / "results.json").write_text(json.dumps(results | {"warnings": [f"{i}" + "<" * 9000 for i in range(500)]}))
    assert len(page(runs, tmp_path).encode()) <= 2_000_000


@pytest.mark.slow
def test_two_hundred_answers_fit_in_two_megabytes(make_run: Make, tmp_path: Path) -> None:
    text = "A sentence of an answer that is <about> as long as people's. " * 12
    runs = [make_run("a"), make_run("b", extra={"gap": 0.1})]
    for run in runs:
        said = [{**sample(s, i, i < 60 + s), "prompt": text[:200], "completion": f"{text} {i * s}", "answer": "#### 7"}
                for s in (0, 40) for i in range(240)]  # fmt: skip
        lines(run / "samples.jsonl", said)
    whole = page(runs, tmp_path)
    assert whole.count('<article class="side"') == 200
    assert len(whole.encode()) <= 2_000_000
    for run in runs:  # longer ones are fewer
        lines(run / "samples.jsonl", [{**row, "completion": "<&" * 600, "answer": "<&" * 600} for row in said])
    whole = page(runs, tmp_path)
    assert 20 < whole.count('<article class="side"') < 200
    assert len(whole.encode()) <= 2_000_000


def test_an_empty_run_is_a_page_without_figures(tmp_path: Path) -> None:
    elements = check_safe(page([tmp_path], tmp_path))
    assert "No final results yet." in elements.text
    assert "svg" not in elements.tags


def test_a_page_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^no runs to report\n  → name at least one run directory"):
        write_report([], tmp_path / "report.html", "")


def test_clip_counts_what_it_leaves_out() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcdef", 3) == "abc … (3 more characters)"
    assert clip("a\x00b\x1b\n\tc\ud800") == "ab\n\tc"
