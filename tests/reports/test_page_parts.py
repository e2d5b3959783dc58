"""The parts of a page and a card: what each is made from, and how much of it there may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.frozen import refuse_changes
from support.made_up_runs import run_data
from twofold.reports import card, html, provenance, samples
from twofold.reports.run import ModelResult, Results, RewardResult, RunData, SampleRow
from twofold.reports.samples import Side, side_by_side
from twofold.statistics import Estimate, mean_interval, wilson

HALF = wilson(5, 10)
REWARD = RewardResult(HALF, HALF, (), 0.1, 0.1, ((0.75, 0.5, 4),))


def solved(name: str, count: int, n: int = 100, **parts: Any) -> RunData:
    models = (ModelResult("base", {"strict": wilson(1, n)}), ModelResult("policy", {"strict": wilson(count, n)}))
    return run_data(name=name, results=Results(name=name, models=models), **parts)


@pytest.mark.parametrize(
    ("highs", "metric", "top"),
    [([], "strict", 0.0), ([0.02], "strict", 0.02), ([0.021, 0.01], "strict", 0.1), ([0.1], "strict", 0.1),
     ([0.2], "strict", 0.2), ([0.3], "strict", 0.5), ([0.51], "strict", 1.0), ([0.01], "margin", 0.0)],
)  # fmt: skip
def test_a_ruler_ends_at_a_round_share(highs: list[float], metric: str, top: float) -> None:
    assert html._top([Estimate(0.0, 0.0, high, 9, None, "") for high in highs], metric) == top


@pytest.mark.parametrize(("share", "place"), [(0.0, "0.00%"), (-0.5, "0.00%"), (0.12345, "12.35%"), (1.5, "100.00%")])
def test_a_place_on_it(share: float, place: str) -> None:
    assert html._place(share) == place


def test_a_page_says_what_each_run_is() -> None:
    run = solved("a", 30, settings={"algorithm": {"kind": "pdpo"}, "model": {"path": "acme/base"}}, recipe="seed: 1",
                 environment={"python": "3", "x": {"y": 1}, "data": {"train": {"sha256": "d"}}})  # fmt: skip
    page = html._page([run], "title")
    assert page["title"] == "title"
    assert page["runs"] == [{
        "name": "a", "look": "run-0", "facts": "pdpo · from acme/base", "data": [("train", "d")],
        "machine": [("python", "3"), ("x", '{"y": 1}'), ("data", '{"train": {"sha256": "d"}}')],
        "command": "twofold train runs/a/resolved.yaml", "repeat": "twofold train runs/a/resolved.yaml",
        "recipe": "seed: 1",
    }]  # fmt: skip
    assert (page["metric"], page["metrics"], page["top"], page["seeds"]) == ("strict", ["strict"], 0.5, [])
    assert page["lead"].startswith("The trained model solves 30.0%")


def test_metrics_stand_strict_first_and_shares_of_others_behind() -> None:
    models = (ModelResult("policy", {"x": HALF, "flexible": HALF, "strict": HALF, "y": HALF}),)
    page = html._page([run_data(results=Results(models=models))], "t")
    assert page["metrics"] == ["strict", "flexible", "x", "y"]
    assert html._page([run_data()], "t")["top"] == 0.0


def test_seeds_of_a_method_have_a_table_and_no_leading_run() -> None:
    runs = [solved(n, 30 + i, settings={"seed": i, "x": 1}) for i, n in enumerate("ab")]
    page = html._page([*runs, solved("c", 9, settings={"x": 2})], "t")
    assert [row[:2] for row in page["seeds"]] == [("base", "1"), ("a", "2"), ("c", "1")]
    assert page["lead"] == ""
    assert html._page([run_data(settings={"x": 1})] * 2, "t")["seeds"] == []  # nothing was measured


def test_what_there_is_much_of_is_cut() -> None:
    training = Results(training={"loss": mean_interval([1.0, 2.0])})
    runs = [run_data(name=f"r{i}", results=replace(training, reward=REWARD, heldout={"accuracy": HALF}),
                     settings={"x": i}) for i in range(8)]  # fmt: skip
    page = html._page(runs, "t")
    assert [name for name, _ in page["training_end"]] == [f"r{i}" for i in range(6)]
    assert (page["watched"], len(page["calibration"]), len(page["rewards"])) == (["loss"], 6, 8)
    assert [(name, key) for name, key, _ in page["heldout"]] == [(f"r{i}", "accuracy") for i in range(8)]
    assert html._calibration([run_data(results=Results(reward=replace(REWARD, bins=())))], [("a", "run-0")]) == []
    many = html._page([run_data(faults=tuple(f"f{i}" for i in range(40)))], "t")
    assert len(many["worries"]) == 24
    told = Results(displacement={"verdict": "v"})
    fallen = html._page([run_data(name=str(i), results=told, settings={"x": i}) for i in range(5)], "t")
    assert [fall.run for fall in fallen["falls"]] == ["0", "1", "2"]


def said(step: int, *right: bool, text: str = "") -> tuple[SampleRow, ...]:
    return tuple(SampleRow(step, f"t:{i}", f"q{i}", text or f"a{i} {r}", f"#### {i}", r) for i, r in enumerate(right))


def test_answers_of_each_outcome_in_their_numbers() -> None:
    """Of seven of each kind four gained, four lost, three wrong and two right are shown first."""
    before, after = [False, True, False, True] * 7, [True, False, False, True] * 7
    run = run_data(samples=(*said(0, *before), *said(9, *after)))
    found = side_by_side([run], ["a"])
    assert found is not None
    outcomes = [s.outcome for s in found.sides]
    assert outcomes == ["gained"] * 4 + ["lost"] * 4 + ["wrong"] * 3 + ["right"] * 2
    assert found.counts == (
        ("wrong before, right after", 7), ("right before, wrong after", 7), ("wrong before and after", 7),
        ("right before and after", 7),
    )  # fmt: skip
    assert len(found.more) == 15
    first = found.sides[0]
    assert (first.name, first.prompt, first.answer) == ("t:0", "q0", "#### 0")
    assert first.completions == (SampleRow(0, "t:0", "q0", "a0 False", "#### 0", False),
                                 SampleRow(9, "t:0", "q0", "a0 True", "#### 0", True))  # fmt: skip
    assert side_by_side([run], ["a"], "flexible") != found
    assert side_by_side([], []) is side_by_side([run_data()], ["a"]) is None
    refuse_changes(first, found, slots=True)


def test_examples_are_at_most_two_hundred_and_within_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_data(samples=(*said(0, *[False] * 260), *said(9, *[True] * 260)))
    found = side_by_side([run], ["a"])
    assert found is not None
    assert (len(found.sides), len(found.more)) == (4, 196)
    size = found.sides[0].size
    assert size == 700 + sum(map(len, ("q0", "#### 0", "t:0", "a0 False", "a0 True"))) + 14 * sum(
        map(len, found.sides[0].pieces)
    )
    for budget, shown, more in ((size - 1, 0, 0), (size, 1, 0), (4 * size, 4, 0), (5 * size, 4, 1)):
        monkeypatch.setattr(samples, "BUDGET", budget)
        cut = side_by_side([run], ["a"])
        assert cut is not None
        assert (len(cut.sides), len(cut.more)) == (shown, more), budget


def test_the_last_five_runs_that_have_answers_stand_side_by_side() -> None:
    whole = (*said(0, True), *said(9, True))
    runs = [run_data(name=str(i), samples=whole if i != 2 else ()) for i in range(7)]
    found = side_by_side(runs, [run.name for run in runs])
    assert found is not None
    assert found.columns == ("before", "1", "3", "4", "5", "6")
    assert Side("n", "<", "a", "right", ()).size == 700 + len("&lt;") + 2


def test_data_is_told_by_its_hash_wherever_that_stands() -> None:
    data = {"a": {"sha256": "1", "source": "/x/y/z/t.jsonl"},
            "b": [{"sha256": "2"}, {"c": {"sha256": "3", "file": "f"}}],
            "d": {"sha256": "4", "path": "p", "e": {"sha256": "4", "path": "p"}}, "g": {"sha256": 5}}  # fmt: skip
    assert provenance.data_hashes(run_data(environment=data)) == [
        ("z/t.jsonl", "1"), ("b", "2"), ("f", "3"), ("p", "4"),
    ]  # fmt: skip


def test_a_run_s_origin_in_words() -> None:
    settings = {"algorithm": "pdpo", "objective": {"kind": "pdpo"}, "model": {"name": "n"}}
    run = run_data(settings=settings, environment={"prompts": 3}, results=Results(command="c"))
    assert provenance.facts(run) == ["pdpo", "from n"]
    assert (provenance.command(run), provenance.base_model(run_data(settings={"model": "m"}))) == ("c", "m")
    assert provenance.base_model(run_data(settings={"model": {"path": 3, "name": "n"}})) == "n"
    assert provenance.base_model(run_data(settings={"model": {"path": "p", "name": "n"}})) == "p"
    assert provenance.kind(run_data(settings={"algorithm": {"kind": 3}}), "algorithm") == ""
    assert provenance.facts(run_data(environment={"prompts": ""}, train={"x": [1.0]})) == ["1 step"]
    many = [run_data(settings={f"k{i:02}": n for i in range(70)}) for n in (1, 2)]
    assert len(provenance.settings_diff(many)) == 60
    assert provenance.settings_diff([run_data(settings={"a": {}}), run_data(settings={"a": "x"})]) == [
        ("a", ("{}", "x"))
    ]


@pytest.mark.parametrize(
    ("settings", "front"),
    [
        ({"model": {"path": "acme/base"}},
         {"base_model": "acme/base", "base_model_relation": "finetune", "tags": ["twofold", "alignment"]}),
        ({"model": {"path": "acme/base/x"}}, {"tags": ["twofold", "alignment"]}),
        ({"objective": {"kind": "a b!" + "c" * 90}, "algorithm": "pdpo"},
         {"tags": ["twofold", "alignment", "a-b-" + "c" * 56, "pdpo"]}),
        ({"objective": "dpo", "algorithm": "dpo"}, {"tags": ["twofold", "alignment", "dpo"]}),
    ],
)  # fmt: skip
def test_what_the_hub_reads(settings: dict[str, Any], front: dict[str, Any]) -> None:
    head = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    assert card.front_matter(run_data(settings=settings)) == {**head, **front}


def test_a_card_of_a_reward_model_and_of_what_was_judged() -> None:
    assert card.front_matter(run_data(results=Results(reward=REWARD)))["pipeline_tag"] == "text-classification"
    for metric, judged in (("strict", True), ("flexible", True), ("other", False)):
        models = (ModelResult("m", {}), ModelResult("n", {metric: HALF}))
        front = card.front_matter(run_data(results=Results(models=models)))
        assert front.get("metrics") == (["exact_match"] if judged else None)


def test_texts_of_a_card_are_cut() -> None:
    assert card.plain("a" * 401) == "a" * 400 + " … (1 more characters)"
    assert card.plain("https://x.y") == "https:​//x.y"
    assert card.plain("`a` [b] $c ~d !e {f} \\g #h") == r"\`a\` \[b\] \$c \~d \!e \{f\} \\g \#h"
    assert card.fenced("x\n\n") == "```\nx\n```"
    assert card.fenced("a```b`````c") == "``````\na```b`````c\n``````"
    assert card.fenced("a" * 20_001).startswith("```\n" + "a" * 20_000 + " … (1 more")


def test_a_page_of_no_title_has_its_first_run_s_name(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    page = html.write_report([tmp_path / "run"], tmp_path / "new" / "page.html")
    assert page == tmp_path / "new" / "page.html"
    assert "<title>run</title>" in page.read_text()
