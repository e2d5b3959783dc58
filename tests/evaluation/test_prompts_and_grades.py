"""Prompts as TruthfulQA's model reads them, and the referee that grades for Arena-Hard."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.evaluation import arena_hard, truthfulqa
from twofold.evaluation.arena_hard import ArenaHardSettings, open_grades
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup
from twofold.judges.servers import OPTIONAL
from twofold.records import Source


@pytest.mark.parametrize(
    ("begin", "text", "adds"), [("<s>", "<s>Q", False), ("<s>", "Q", True), ("", "Q", True), (None, "Q", True)]
)
def test_a_token_that_begins_a_text_is_added_once(begin: str | None, text: str, adds: bool) -> None:
    asked = list[Any]()

    def encode(text: str, **how: Any) -> tuple[int, ...]:
        asked.append((text, how))
        return 1, 2

    tokenizer = SimpleNamespace(bos_token=begin, encode=encode)
    model: Any = SimpleNamespace(loaded=SimpleNamespace(tokenizer=tokenizer))
    assert truthfulqa._encoded(model, text) == [1, 2]
    assert asked == [(text, {"add_special_tokens": adds})]


class Judge:
    """Grades every match alike; the second has no verdict in one order, the third is of equal texts."""

    def __init__(self, server: Any, rubric: Any, **how: Any) -> None:
        self.given, self.provenance, self.spend = (server, rubric, how), {"model": "j"}, {"dollars": 1.0}
        self.matches = list[Any]()

    def grades(self, matches: Any, ledger: Any) -> Any:
        self.matches = list(matches)
        return ledger

    def collected(self, work: Any, number: int, progress: Any) -> list[Any]:
        return [("A>>B", "A>B"), ("A>B", None), None, ("A=B", "B>A")][:number]


def test_grades_come_from_one_server_with_what_it_may_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rubrics = list[Any](), list[Any]()
    monkeypatch.setattr(arena_hard, "ModelJudge", lambda *given, **how: made.append(Judge(*given, **how)) or made[-1])
    monkeypatch.setattr(arena_hard.Rubric, "load", lambda *given: rubrics.append(given) or "rubric")
    how = ArenaHardSettings(judge="llm:http://127.0.0.1:9/v1#j", against="m", rubric="r.md")
    with ExitStack() as stack:
        referee = open_grades(how, "ledger", stack)  # type: ignore[arg-type]  # any
        ((server, rubric, limits),) = [judge.given for judge in made]
        assert (server.endpoint.model, server.retry is how.retry, server.optional) == ("j", True, OPTIONAL)
        assert (rubric, limits) == ("rubric", {"max_tokens": 4096})
        assert [(kind, str(path)) for kind, path in rubrics] == [("grade", "r.md")]
        open_grades(ArenaHardSettings(judge=how.judge, against="m"), "ledger", stack)  # type: ignore[arg-type]
        assert rubrics[1] == ("grade", None)
        assert referee.provenance == {"kind": "llm, five grades", "model": "j"}
        assert referee.spend() == [{"dollars": 1.0}]
        matchups = [Matchup("p", "a", f"b{n}", Source("f", n), "4") for n in range(4)]
        found = referee.outcomes(matchups, Heard())
    assert found == [
        MatchResult(1.0, ("A>>B", "A>B")), None, None, MatchResult(1.0, ("A=B", "B>A")),
    ]  # fmt: skip
    assert [(m.prompt, m.truth) for m in made[0].matches] == [("p", "4")] * 4


@pytest.mark.parametrize(
    ("orders", "share"),
    [(("A>B", "B>A"), 1.0), (("A>B", "A>B"), 0.5), (("B>>A", "B>A"), 0.0), (("A=B", "A=B"), 0.5),
     (("A>>B", "A>B"), 1.0)],
)  # fmt: skip
def test_a_result_is_the_side_of_the_mean_of_all_battles(orders: tuple[str, str], share: float) -> None:
    assert arena_hard._result(orders) == MatchResult(share, orders)
    for missing in (None, (None, "A>B"), ("A>B", None)):
        assert arena_hard._result(missing) is None
