"""`mt-bench` against a baseline: verdicts of a server in both orders, figures as of FastChat's pairwise mode."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.benchmark_judges import request, written
from support.heard import Heard
from support.judge_replies import QUICK, parts
from support.openai_stub import Body, Stub, said
from twofold.errors import DataError, RecipeError
from twofold.evaluation.mt_bench import mt_bench

RECORDED = json.loads((Path(__file__).parents[1] / "parity" / "mt_bench.json").read_text(encoding="utf-8"))
LAST = re.compile(r"(\w+) (\d+) (\d)$")


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "Verdict: tie")
    yield server
    server.close()


def questions(path: Path, categories: list[str]) -> str:
    return written(path / "question.jsonl", [
        {"question_id": 81 + i, "category": category, "turns": [f"first {i}?", f"then {i}?"],
         "reference": ["own one", "own two"]} for i, category in enumerate(categories)
    ])  # fmt: skip


def answers(path: Path, name: str, n: int) -> str:
    return written(path / f"{name}.jsonl", [
        {"question_id": 81 + i, "choices": [{"turns": [f"{name} {i} 0", f"{name} {i} 1"]}]} for i in range(n)
    ])  # fmt: skip


def last(text: str) -> tuple[str, int, int]:
    """The player, question and turn of the last answer in what the judge reads."""
    found = LAST.search(text.strip())
    assert found is not None
    return found[1], int(found[2]), int(found[3])


def test_figures_are_those_of_fastchat(stub: Stub, tmp_path: Path) -> None:
    verdicts = RECORDED["verdicts"]

    def say(body: Body) -> str:
        first, second = map(last, parts(body))
        own_first = first[0] != "base"
        name, i, turn = first if own_first else second
        winner = verdicts[name][i][turn][0 if own_first else 1]
        letters = {"model_1": "A" if own_first else "B", "model_2": "B" if own_first else "A", "tie": "tie"}
        return f"Verdict: {letters[winner]}" if winner in letters else "I cannot say."

    stub.say = say
    data = questions(tmp_path, RECORDED["categories"])
    files = {name: answers(tmp_path, name, 20) for name in (*verdicts, "base")}
    heard = Heard()
    found = mt_bench([*files.values()], data, judge=f"llm:{stub.url}#j", against=files["base"], out=tmp_path / "out",
                     retry=QUICK, progress=heard)  # fmt: skip
    figures = found.figures
    assert [Path(model["name"]).stem for model in figures["models"]] == ["m", "n"]
    for model, name in zip(figures["models"], verdicts, strict=True):
        recorded = RECORDED["against"][name]
        assert model["win_rate"]["value"] == pytest.approx(recorded["win_rate_adjusted"], abs=1e-12)
        assert (model["wins"], model["losses"], model["ties"]) == (recorded["win"], recorded["loss"], recorded["tie"])
        assert model["missing"] == 40 - recorded["win"] - recorded["loss"] - recorded["tie"] > 0
        assert model["win_rate"]["clusters"] <= 20 < model["win_rate"]["n"] == 40 - model["missing"]
        assert list(model["subsets"]) == ["writing", "math", "stem", "humanities", "turn 1", "turn 2"]
        turns = [model["subsets"][f"turn {turn}"]["win_rate"] for turn in (1, 2)]
        both = sum(turn["value"] * turn["n"] for turn in turns) / sum(turn["n"] for turn in turns)
        assert both == pytest.approx(model["win_rate"]["value"])
    (test,) = figures["comparisons"]
    assert (test["metric"], test["difference"]["value"] < 0) == ("win_rate", True)
    assert figures["against"].endswith("base.jsonl")
    assert figures["judge"]["kind"] == "llm"
    assert len(found.rows) == 80
    assert heard.warnings == [f"{sum(m['missing'] for m in figures['models'])} contests without a verdict are left "
                              "out of n"]  # fmt: skip


def test_the_judge_of_a_second_turn_reads_both_conversations(stub: Stub, tmp_path: Path) -> None:
    data = questions(tmp_path, ["math", "writing"])
    files = [answers(tmp_path, name, 2) for name in ("m", "base")]
    found = mt_bench(files[:1], data, judge=f"llm:{stub.url}#j", against=files[1], out=tmp_path / "out")
    assert len(stub.requests) == 8
    seconds = [body for body in stub.requests if "second question" in request(body)]
    assert len(seconds) == 4
    seconds.sort(key=lambda body: "then 0?" not in request(body))  # they are sent side by side
    first, second = parts(seconds[0])
    assert [text.count(" 0 0") + text.count(" 0 1") for text in (first, second)] == [2, 2]
    assert "then 0?" in first
    assert request(seconds[0]).startswith("The first question:\nfirst 0?\n\nThe second question:\nthen 0?")
    assert sum("own two" in said(body) for body in stub.requests) == 2
    assert sum("own one" in said(body) for body in stub.requests) == 4
    (model,) = found.figures["models"]
    assert (model["win_rate"]["value"], model["ties"], model["length"]) == (0.5, 4, 5)
    assert [row["own"] for row in found.rows] == ["m 0 0", "m 0 1", "m 1 0", "m 1 1"]


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    data, file = questions(tmp_path, ["math"]), answers(tmp_path, "m", 1)
    how: dict[str, Any] = {"out": tmp_path / "out"}
    for judge in ("llm-score:http://h/v1#j", ["llm:http://h/v1#j", "llm:http://h/v1#k"], "human:x"):
        with pytest.raises(RecipeError, match=r"--against: requires one judge that compares two answers"):
            mt_bench([file], data, judge=judge, against=file, **how)
    with pytest.raises(RecipeError, match="reference has no meaning here"):
        mt_bench([file], data, judge="llm:http://h/v1#j", against="reference", **how)
    other = written(tmp_path / "o.jsonl", [{"question_id": 7, "choices": [{"turns": ["a", "b"]}]}])
    with pytest.raises(DataError, match=r"o.jsonl: has no answer to question_id 81"):
        mt_bench([file], data, judge="llm:http://h/v1#j", against=other, **how)
