"""Judges on labeled pairs, panels, and a judge's own accuracy beside its win rates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.judge_replies import longer
from support.openai_stub import Stub, said
from twofold.errors import RecipeError
from twofold.evaluation.games import Game, length_controlled
from twofold.evaluation.judge_figures import by_judge, calibration, panel, reliability
from twofold.evaluation.judging import judge_check
from twofold.evaluation.win_rate import win_rate
from twofold.judges.base import MatchResult
from twofold.judges.panels import majority, own_ledger_path
from twofold.statistics import cohens_kappa, fleiss_kappa, krippendorffs_alpha, mean_interval, mirrored_kappa, wilson

FAST: dict[str, Any] = {"max_new_tokens": 4, "temperatures": [0.0], "canary": ""}


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: longer(body) if body["model"] == "long" else "Verdict: A")
    yield server
    server.close()


def game(item: int, share: float, gap: int = 0, **more: Any) -> Game:
    return Game(item, item, share, 50 + gap, 50, **more)


def test_the_figures_of_a_judge_by_hand() -> None:
    """5 of 8 right, a tie that flips; right on 3 of 4 where the longer is right, on 1 of 2 where the shorter is."""
    fixed, first = ("A", "B"), ("A", "A")
    games = [game(0, 1, 5, orders=fixed), game(1, 1, 5, orders=fixed), game(2, 1, 9, orders=fixed),
             game(3, 0.5, 5, orders=first), game(4, 1, -5, orders=fixed), game(5, 0, -5, orders=("B", "A")),
             game(6, 1, orders=fixed), game(7, 0, orders=("B", "A"))]  # fmt: skip
    found = reliability(games)
    assert found["accuracy"] == wilson(5, 8).as_dict()
    assert found["kappa"] == mirrored_kappa([g.share for g in games], [1.0] * 8).as_dict()
    assert (found["ties"], found["orders"]["flips"]["count"], found["orders"]["first"]) == (1, 1, 1)
    lengths = found["lengths"]
    assert lengths["longer_right"] == wilson(3, 4).as_dict()
    assert lengths["shorter_right"] == wilson(1, 2).as_dict()
    fit = length_controlled(games)
    assert (lengths["slope"], lengths["equal"]["value"]) == (fit.slope, fit.rate.value)
    assert lengths["slope_low"] < lengths["slope"] < lengths["slope_high"]
    assert "calibration" not in found
    assert "self_preference" not in found


def test_a_judge_that_only_measures_length_has_its_weight() -> None:
    gaps = [-9, -6, -3, 3, 6, 9] * 10
    biased = reliability([game(i, float(gap > 0), gap) for i, gap in enumerate(gaps)])["lengths"]
    fair = reliability([game(i, float(i % 3 > 0), gap) for i, gap in enumerate(sorted(gaps))])["lengths"]
    assert biased["slope_low"] > 2
    assert fair["slope_low"] < 0 < fair["slope_high"]
    assert (biased["longer_right"]["value"], biased["shorter_right"]["value"]) == (1.0, 0.0)


def test_calibration_by_hand() -> None:
    """Confidences 0.9, 0.9 (one wrong), 0.62 and ½: (2·|0.5 − 0.9| + |1 − 0.62| + |0.5 − 0.5|) / 4."""
    found = calibration([0.9, 0.1, 0.62, 0.5])
    assert found["ece"] == pytest.approx((2 * 0.4 + 0.38) / 4)
    assert found["brier"]["value"] == pytest.approx((0.01 + 0.81 + 0.1444 + 0.25) / 4)
    assert [each["n"] for each in found["bins"]] == [1, 1, 2]
    games = [game(i, float(p > 0.5), probability=p) for i, p in enumerate([0.9, 0.1, 0.62])]
    assert reliability(games)["calibration"] == calibration([0.9, 0.1, 0.62], [0, 1, 2])


def test_self_preference_is_its_share_for_its_own_answers_minus_peoples() -> None:
    """Its own answers: people prefer 1 of 3, it prefers 2.5 of 3. The fourth pair has two authors that are others."""
    found = reliability([game(i, share) for i, share in enumerate([1, 0, 0.5, 1])], [True, False, False, None])
    told = found["self_preference"]
    assert told["people"] == wilson(1, 3).as_dict()
    assert told["judge"] == mean_interval([1.0, 1.0, 0.5]).as_dict()
    assert told["excess"] == mean_interval([0.0, 1.0, 0.5]).as_dict()


@pytest.mark.parametrize(
    ("votes", "share"),
    [((1.0, 1.0, 0.0), 1.0), ((1.0, 0.5, 0.5), 1.0), ((1.0, 0.0, 0.5), 0.5), ((0.0, None, 0.0), 0.0),
     ((1.0, None, None), None), ((1.0, None), None), ((0.0, 1.0), 0.5)],
)  # fmt: skip
def test_the_majority(votes: Sequence[float | None], share: float | None) -> None:
    found = majority([None if vote is None else MatchResult(vote) for vote in votes])
    assert found == (None if share is None else MatchResult(share, votes=tuple(votes)))


def test_a_panels_agreement() -> None:
    votes = [(1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.5, None), (1.0, 1.0, 1.0), (0.0, 1.0, 0.0)]
    games = [game(i, 1.0, votes=v) for i, v in enumerate(votes)]
    found = panel(["a", "b", "c"], [*games, game(9, 0.5)])  # equal texts have no votes
    assert found is not None
    assert found["fleiss_kappa"] == fleiss_kappa(votes).as_dict()
    assert found["krippendorff_alpha"] == krippendorffs_alpha(votes, distance="interval").as_dict()
    first, second, third = found["pairs"]
    assert (first["a"], first["b"], first["same"]) == ("a", "b", wilson(3, 5).as_dict())
    assert (
        first["kappa"]
        == cohens_kappa(["win", "loss", "win", "win", "loss"], ["win", "loss", "tie", "win", "win"]).as_dict()
    )
    assert (second["same"]["n"], third["same"]["n"]) == (4, 4)
    assert [(each["judge"], each["value"], each["n"]) for each in by_judge(["a", "b", "c"], games)] == [
        ("a", 0.6, 5), ("b", 0.7, 5), ("c", 0.25, 4),
    ]  # fmt: skip
    assert (panel(["a"], games), by_judge(["a"], games)) == (None, [])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The longer answer is right on three of four; `long` wrote the chosen answer of the second, and of the fourth the
    rejected one."""
    rows = [("one four", "#### 4 is it", "5", "x", "y"), ("five", "5, as you said", "6", "org/LONG", "y"),
            ("la", "la la la", "1", "x", "y"), ("two", "2", "three, or so", "x", "long")]  # fmt: skip
    names = ("prompt", "chosen", "rejected", "chosen_model", "rejected_model")
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps({**dict(zip(names, row, strict=True)), "answer": "secret 42"}) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_judges_on_pairs_each_with_its_ledger(stub: Stub, pairs: Path, tmp_path: Path) -> None:
    names = [f"llm:{stub.url}#{model}" for model in ("long", "place")]
    found = judge_check(names, str(pairs), out=tmp_path / "out")
    length, place, both = found.figures["judges"]
    assert (length["accuracy"]["count"], length["accuracy"]["n"], length["orders"]["flips"]["count"]) == (3, 4, 0)
    assert (place["accuracy"]["count"], place["ties"], place["orders"]["flips"]["count"]) == (0, 4, 4)
    assert place["orders"]["first"] == 4
    assert (both["name"], both["accuracy"]["count"]) == ("majority", 3)  # one votes, the other abstains
    assert length["self_preference"]["people"]["count"] == 1
    assert (length["self_preference"]["judge"]["value"], length["self_preference"]["excess"]["value"]) == (1.0, 0.5)
    assert length["judge"]["model"] == "long"
    assert [t["a"] for t in found.figures["comparisons"]] == [names[0], names[0], names[1]]
    assert found.figures["panel"]["pairs"][0]["same"]["count"] == 0
    assert len(stub.requests) == 16
    assert all("secret 42" in said(body) for body in stub.requests)
    ledgers = [own_ledger_path(tmp_path / "out" / "ledger.jsonl", name) for name in names]
    assert [len(path.read_text().splitlines()) for path in ledgers] == [8, 8]
    assert [(s["server"].rpartition("#")[2], s["requests"], s["prompt_tokens"], s["completion_tokens"])
            for s in found.figures["spend"]] == [("long", 8, 24, 16), ("place", 8, 24, 16)]  # fmt: skip
    assert judge_check(names, str(pairs), out=tmp_path / "out") == found
    assert len(stub.requests) == 16
    with pytest.raises(RecipeError, match="people are not measured"):
        judge_check(["human:x"], str(pairs), out=tmp_path / "out")


def test_a_panel_decides_and_its_accuracy_is_beside_it(
    stub: Stub, pairs: Path, simple: str, wise: str, tmp_path: Path
) -> None:
    """`simple` has `5` against `#### 5`, and `#### 4` against `#### 5`. The truth is 5, the judge of length is for
    `wise`, the one of places is for no one."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "one four", "answer": "#### 5"}\n{"question": "five", "answer": "#### 5"}\n')
    judges = [f"llm:{stub.url}#long", f"llm:{stub.url}#place", "verifier:flexible"]
    found = win_rate([simple], str(rows), judge=judges, against=wise, out=tmp_path / "out", **FAST)
    assert [(row["share"], row["votes"]) for row in found.rows] == [(0.0, [0.5, 0.5, 0.0]), (0.0, [0.0, 0.5, 0.5])]
    (rate,) = found.figures["win_rates"]
    assert [(each["judge"], each["value"]) for each in rate["judges"]] == list(
        zip(judges, (0.25, 0.5, 0.25), strict=True)
    )
    assert found.figures["panel"]["judges"] == judges
    assert [each["kind"] for each in found.figures["judge"]["judges"]] == ["llm", "llm", "verifier"]
    assert "judge_check" not in found.figures
    both = win_rate(
        [simple], str(rows), judge=judges[:2], judge_pairs=str(pairs), against=wise, out=tmp_path / "o", **FAST
    )
    check = both.figures["judge_check"]
    assert (check["pairs"], check["accuracy"]["count"], check["accuracy"]["n"]) == (str(pairs), 3, 4)
    assert check["panel"]["judges"] == judges[:2]
