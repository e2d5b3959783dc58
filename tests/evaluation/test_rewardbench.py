"""RewardBench's figures: from recorded scores those of the package, and scores of models from published rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.judge_replies import longer
from support.openai_stub import Stub
from twofold.data.formats import read
from twofold.errors import DataError, RecipeError
from twofold.evaluation.likelihood import preference
from twofold.evaluation.parts import WHOLE, Line, Part, facts_of, lines_of, measured_of
from twofold.evaluation.rewardbench import (
    SECTIONS,
    RewardBenchSettings,
    best_credit,
    best_figures,
    measure_pairs,
    pair_credit,
    pair_figures,
    rewardbench,
    rewardbench2,
)
from twofold.ledger import Ledger
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy
from twofold.progress import Silent
from twofold.rewards.model import open_reward

RECORD = json.loads((Path(__file__).parents[1] / "parity" / "rewardbench.json").read_text(encoding="utf-8"))
HOW = RewardBenchSettings()


def line(rows: list[dict[str, Any]], **about: Any) -> Line:
    return Line([{"model": "m", "name": f"r:{i}", "prompt": f"p{i}", "right": 1, **row} for i, row in enumerate(rows)],
                about)  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_subsets_and_sections_are_those_of_the_package() -> None:
    told = RECORD["rewardbench"]
    (model,) = pair_figures({"m": line(told["rows"])}, HOW).figures["models"]
    assert {name: f["accuracy"]["value"] for name, f in model["subsets"].items()} == pytest.approx(told["subsets"])
    assert {name: model[name]["value"] for name in SECTIONS} == pytest.approx(told["sections"], abs=1e-6)
    assert model["overall"]["value"] == pytest.approx(sum(told["sections"].values()) / 4, abs=1e-6)
    assert model["overall"]["low"] < model["overall"]["value"] < model["overall"]["high"]
    assert model["ties"] == sum(a == b for a, b in (row["scores"] for row in told["rows"])) > 0


def test_subsets_have_their_published_sizes() -> None:
    """Of 2,985 pairs, of which math-prm has 447: it weighs as much as the six subsets of 164 programs."""
    assert {section: sum(subsets.values()) for section, subsets in SECTIONS.items()} == {
        "Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968,
    }  # fmt: skip
    reasoning = dict(SECTIONS["Reasoning"])
    assert reasoning.pop("math-prm") == sum(reasoning.values()) == 984
    assert set(reasoning.values()) == {164}
    assert 358 + 456 + 740 + 984 + 447 == 2985
    assert sum(map(len, SECTIONS.values())) == 23


def test_the_best_of_several_and_ties_are_those_of_the_package() -> None:
    told = RECORD["rewardbench2"]
    (model,) = best_figures({"m": line(told["rows"])}, HOW).figures["models"]
    found = {name: next(iter(f.values()))["value"] for name, f in model["subsets"].items()}
    assert found == pytest.approx(told["subsets"], abs=1e-6)
    assert model["overall"]["value"] == pytest.approx(sum(told["subsets"].values()) / 6, abs=1e-6)
    assert model["overall"]["low"] < model["overall"]["value"] < model["overall"]["high"]


def test_ties_count_by_the_kind_of_score() -> None:
    assert (pair_credit([1, 1], compares=False), pair_credit([1, 1], compares=True)) == (0, 0.5)
    assert (best_credit([1, 1, 0]), best_credit([0, 1]), best_credit([2, 1])) == (0.5, 0, 1)
    rows = [{"subset": "hep-go", "scores": [1, 1]}, {"subset": "hep-go", "scores": [2, 1]}]
    (model,) = pair_figures({"m": line(rows, compares=True)}, HOW).figures["models"]
    assert (model["overall"]["value"], model["Reasoning"]["value"]) == (0.75, 0.75)


def test_two_models_are_compared_over_prompts() -> None:
    rows = RECORD["rewardbench"]["rows"][:90]
    better = [{**row, "scores": [row["scores"][0] + 1, row["scores"][1]]} for row in rows]
    found = pair_figures({"a": line(rows), "b": line(better)}, HOW).figures
    tests = {c["metric"]: c for c in found["comparisons"]}
    assert set(tests) == {"overall", *SECTIONS}
    gain = found["models"][1]["overall"]["value"] - found["models"][0]["overall"]["value"]
    assert tests["overall"]["difference"]["value"] == pytest.approx(gain)
    assert tests["overall"]["p_holm"] < 0.05


def test_a_models_scores_are_its_log_probabilities(simple: str, wise: str, tmp_path: Path) -> None:
    rows = [
        {"prompt": "four", "chosen": "#### 4", "rejected": "#### 5", "subset": "hep-go", "id": 0,
         "chosen_model": "x", "rejected_model": "y"},
        {"prompt": "five", "chosen": "#### 5", "rejected": "5", "subset": "donotanswer", "id": 1},
    ]  # fmt: skip
    data = written(tmp_path / "rows.jsonl", rows)
    found = rewardbench([simple, wise], data)
    logps = preference([simple, wise], data)
    both = [(r["chosen_logp"], r["rejected_logp"]) for r in logps.rows]
    assert [row["scores"][0] for row in found.rows] == pytest.approx([chosen for chosen, _ in both], abs=1e-4)
    assert [row["scores"][1] for row in found.rows] == pytest.approx([rejected for _, rejected in both], abs=1e-4)
    assert [m["overall"]["value"] for m in found.figures["models"]] == [0.5, 0.5]
    own = rewardbench([simple], data, reference=simple)
    assert (own.figures["models"][0]["overall"]["value"], own.figures["models"][0]["ties"]) == (0, 2)
    assert own.figures["models"][0]["scoring"] == {"score": "implicit reward", "reference": simple, "style": "text"}
    reward = rewardbench([simple], data, reference=wise).rows
    assert reward[0]["scores"] == pytest.approx([a - b for a, b in zip(both[0], both[2], strict=True)], abs=1e-4)


def test_rewardbench_2_of_a_model(simple: str, tmp_path: Path) -> None:
    rows = [
        {"id": "7", "prompt": "four", "chosen": ["#### 4"], "rejected": ["#### 5", "5", "1"], "subset": "Math",
         "num_correct": 1, "num_rejected": 3, "total_completions": 4, "models": ["x"] * 4},
        {"id": "ref:0", "prompt": "five", "chosen": ["5"], "rejected": ["7"], "subset": "Ties"},
        {"id": "tied:0", "prompt": "five", "chosen": ["5", "#### 4"], "rejected": ["7 9"], "subset": "Ties"},
    ]  # fmt: skip
    (model,) = rewardbench2([simple], written(tmp_path / "rows.jsonl", rows)).figures["models"]
    assert model["subsets"]["Math"]["accuracy"]["value"] == 1
    assert model["subsets"]["Ties"]["score"]["value"] == pytest.approx(0.6, abs=1e-3)  # margin = spread
    rows[1]["id"] = "seven"
    with pytest.raises(DataError, match="of a row of Ties"):
        rewardbench2([simple], written(tmp_path / "other.jsonl", rows))


def test_a_reward_model_scores_through_its_judge(simple: str, tmp_path: Path) -> None:
    model, loaded = load_reward_model(ModelSettings(path=simple, precision="float32"))
    save_policy(model, loaded.tokenizer, tmp_path / "rm")
    row = {"prompt": "four", "chosen": "#### 4", "rejected": "five 5", "subset": "hep-go"}
    data, judge = written(tmp_path / "rows.jsonl", [row]), f"reward:{tmp_path / 'rm'}"
    (found,) = rewardbench([judge], data).rows
    (scores,) = open_reward(str(tmp_path / "rm")).score(read(data).records, Silent())
    assert found["scores"] == scores
    assert found["credit"] == (scores[0] > scores[1])
    with pytest.raises(DataError, match="max_length"):
        rewardbench([judge], data, max_length=3)


def test_a_comparing_judge_has_half_of_a_tie(tmp_path: Path) -> None:
    """One that always takes the longer answer, and one that always takes A, whose two orders are a tie."""
    rows = [
        {"prompt": "four", "chosen": c, "rejected": r, "subset": "hep-go"} for c, r in (("a b c", "d"), ("e", "f g"))
    ]
    data = written(tmp_path / "rows.jsonl", rows)
    for say, value, ties in ((longer, 0.5, 0), (lambda body: "Because.\nVerdict: A", 0.5, 2)):
        stub, out = Stub(say), tmp_path / f"out{ties}"
        try:
            found = rewardbench([f"llm:{stub.url}#j"], data, out=out)
            again = rewardbench([f"llm:{stub.url}#j"], data, out=out)
        finally:
            stub.close()
        (model,) = found.figures["models"]
        assert (model["overall"]["value"], model["ties"], model["scoring"]["compares"]) == (value, ties, True)
        assert [row["credit"] for row in found.rows] == ([0.5, 0.5] if ties else [1, 0])
        assert again == found
        assert len(stub.requests) == 4


def test_shards_give_the_figures_of_one_command(simple: str, wise: str, tmp_path: Path) -> None:
    rows = [
        {"prompt": "four", "chosen": "#### 4", "rejected": "5", "subset": "hep-go"},
        {"prompt": "five", "chosen": "#### 5", "rejected": "5", "subset": "mt-bench-hard"},
    ]
    pairs = read(written(tmp_path / "rows.jsonl", rows)).records
    how = RewardBenchSettings(reference=wise)
    whole = measure_pairs([simple], pairs, how, WHOLE)
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        shards = [measure_pairs([simple], pairs, how, Part(i, i + 1, ledger, "r")) for i in range(2)]
        assert measure_pairs([simple], pairs, how, Part(0, 1, ledger, "r")) == shards[0]
    joined = measured_of(facts_of(shards[0]), [line for shard in shards for line in lines_of(shard)])
    assert pair_figures(joined, how) == pair_figures(whole, how)


def test_mistakes_are_named_before_a_model_is_opened(tmp_path: Path) -> None:
    row = {"prompt": "four", "chosen": "a", "rejected": "b", "subset": "hep-go"}
    data = written(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError, match="lacks the field `subset`") as error:
        rewardbench(["nobody"], written(tmp_path / "bare.jsonl", [row, {**row, "subset": None}]))
    assert error.value.where.endswith("bare.jsonl:2")
    with pytest.raises(DataError, match="unknown subset 'mine'"):
        rewardbench(["nobody"], written(tmp_path / "mine.jsonl", [{**row, "subset": "mine"}]))
    with pytest.raises(RecipeError, match="only models have implicit rewards"):
        rewardbench(["reward:rm"], data, reference="nobody")
    with pytest.raises(RecipeError, match="no folder for a server's answers"):
        rewardbench(["llm-score:http://localhost:1/v1#judge"], data)
    with pytest.raises(DataError):
        rewardbench(["verifier"], data)
