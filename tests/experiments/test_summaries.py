"""Generated posts, their oracle, and the dialogue trial's split: what can be known without a model."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from experiments.dialogue.__main__ import parts, single_turns, table
from experiments.harness.files import write_rows
from experiments.summaries.__main__ import (
    BEST_OF,
    DEVELOPMENT,
    PAIRS,
    TEMPERATURES,
    TEST,
    UNSEEN,
    Plan,
    Shelf,
    posts,
    preferred,
)
from experiments.summaries.tasks import TOPICS, WORD_COST, draft, oracle, post, quality
from twofold.judges.language_model import Rubric
from twofold.progress import Silent


@pytest.mark.parametrize("topic", TOPICS)
def test_gold_is_the_best_summary_and_faults_cost(topic: str) -> None:
    random = Random(0)
    for _ in range(50):
        made = post(topic, random)
        gold = quality(made, made.gold)
        assert gold == pytest.approx(1 - WORD_COST * len(made.gold.split()))
        who = made.salient[0][1]
        assert quality(made, made.gold.replace(who, "")) < gold
        assert quality(made, f"{made.gold} {made.asides[0]}") < gold
        assert quality(made, made.gold + " indeed") == pytest.approx(gold - WORD_COST)
        other = next(w for w in TOPICS[topic][0] if w != who and w not in made.gold)
        assert quality(made, made.gold.replace(who, other)) < quality(made, made.gold.replace(who, ""))
        assert quality(made, draft(made, random)) <= gold
        assert all(words in made.text for _, words in made.salient)
        assert quality(made, "") == 0.0


def test_phrases_of_a_topic_do_not_hide_in_each_other() -> None:
    for words in TOPICS.values():
        every = [phrase for kind in words for phrase in kind]
        assert not [(a, b) for a in every for b in every if a != b and a in b]


def test_the_oracle_is_wrong_as_often_as_it_is_told() -> None:
    random = Random(0)
    wrong = sum(not oracle(True, 0.08, random) for _ in range(20_000))
    assert wrong / 20_000 == pytest.approx(0.08, abs=0.006)
    assert oracle(False, 0.0, random) is False


def test_preferences_follow_the_oracle() -> None:
    (made,) = posts("home", 1, 5)
    worse = f" {made.salient[0][1]}."
    sure = Plan(flip=0.0)
    assert preferred(made, [worse, made.gold, made.gold, " "], sure, Random(0)) == [
        {"prompt": made.prompt, "chosen": made.gold, "rejected": worse}
    ]
    wrong = Plan(flip=1.0)
    assert preferred(made, [worse, made.gold], wrong, Random(0))[0]["chosen"] == worse


def test_posts_are_a_function_of_topic_and_seed() -> None:
    assert posts("home", 20, 1) == posts("home", 40, 1)[:20]
    assert not set(posts("home", 20, 1)) & set(posts("home", 20, 2))


def test_dialogues_are_short_single_turns_and_nobody_shares_them(tmp_path: Path) -> None:
    rows = [
        {"chosen": f"\n\nHuman: hi\n\nAssistant: yes\n\nHuman: q{i}\n\nAssistant: a", "rejected":
         f"\n\nHuman: hi\n\nAssistant: yes\n\nHuman: q{i}\n\nAssistant: b"} for i in range(9)
    ]  # fmt: skip
    rows.append({side: f"\n\nHuman: long\n\nAssistant: {side * 100}" for side in ("chosen", "rejected")})
    write_rows(tmp_path / "hh.jsonl", [*rows, rows[0]])
    found = single_turns(tmp_path / "hh.jsonl")
    assert [r["prompt"] for r in found] == [f"\n\nHuman: q{i}\n\nAssistant:" for i in range(9)]
    split = parts(found, 3)
    prompts = [r["prompt"] for part in split.values() for r in part]
    assert len(prompts) == len(set(prompts)) == 9
    assert [len(split[name]) for name in ("test", "judge", "train")] == [3, 2, 4]


def test_win_rates_pair_the_policies_on_the_same_prompts() -> None:
    def rows(wins: int) -> list[dict[str, object]]:
        return [{"own": float(i < wins), "chosen": 0.5, "tokens": 3, "truncated": i == 0} for i in range(20)]

    _, line = table({("ft", 0.7): rows(5), ("dpo", 0.7): rows(15)})
    assert line[0] == "0.7"
    assert line[1].startswith("25.0% [")
    assert line[2].startswith("75.0% [")
    assert line[3:] == ("5% / 5%", "0.002", "20")


@pytest.mark.parametrize("name", ["tldr", "hh"])
def test_the_papers_rubrics_can_be_used(name: str) -> None:
    path = Path(__file__).parents[2] / "recipes" / "papers" / f"{name}_compare.jinja"
    said = Rubric.load("compare", path).render(prompt="PROMPT", truth=None, first="FIRST", second="SECOND")
    assert said.index("PROMPT") < said.index("FIRST") < said.index("SECOND") < said.index("Verdict: tie")


def test_the_best_run_is_that_of_the_oracles_best_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all temperatures, on posts that no figure is of; a reward model's by unseen pairs; SFT has no choice."""
    shares = {"dpo-0.1": 0.5, "dpo-0.2": 0.6, "dpo-0.3": 0.6}
    asked = set[tuple[str, float, int]]()

    def games(self: Shelf, run: str, topic: str, heat: float, seed: int) -> dict[str, list[float]]:
        asked.add((topic, heat, seed))
        return {"shares": [shares[run] + 0.1 * heat, 0.0]}

    monkeypatch.setattr(Shelf, "games", games)
    for rate, share in (("1", 0.7), ("2", 0.8)):
        (tmp_path / f"reward-{rate}").mkdir()
        told = {"heldout": {"accuracy": {"value": share}}}
        (tmp_path / f"reward-{rate}" / "results.json").write_text(json.dumps(told), encoding="utf-8")
    shelf = Shelf(tmp_path, Plan(), {"dpo": (0.1, 0.3, 0.2), "reward": (1, 2)}, Silent())
    assert [shelf.best(name) for name in ("sft", "dpo", "reward")] == ["sft", "dpo-0.2", "reward-2"]
    assert asked == {("home", heat, DEVELOPMENT) for heat in TEMPERATURES}
    assert len({PAIRS, TEST, BEST_OF, DEVELOPMENT, UNSEEN, 0}) == 6
