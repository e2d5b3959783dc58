"""`accuracy` of models that are known by heart: every figure, every row, and how far it is."""

from __future__ import annotations

import pytest

from support.frozen import refuse_changes
from support.heard import Heard
from support.recital import Falters, Letters, Recites, tasks
from twofold.errors import DataError, RecipeError
from twofold.evaluation import answers as room
from twofold.evaluation.answers import (
    METRICS,
    AccuracySettings,
    Answered,
    accuracy,
    answers,
    refuse_unanswerable,
    verdicts,
)
from twofold.evaluation.exact_match import exact_match
from twofold.evaluation.pass_at_k import solve
from twofold.evaluation.problems import PromptSettings
from twofold.evaluation.prompting import Prompting
from twofold.records import Message, Source, Task
from twofold.statistics import holm, mcnemar, paired_bootstrap, wilson

PROBLEMS = [
    Task(prompt, answer, Source("t.jsonl", i))
    for i, (prompt, answer) in enumerate([("one four", "#### 4"), ("five", "so\n#### 5"), ("la", "#### 1")], 1)
]
PROMPTING = {
    "style": "text",
    "template": "{prompt}",
    "shots": 0,
    "examples": [],
    "stop": [],
    "first prompt": "one four",
}
SIMPLE = {"strict": [True, False, False], "flexible": [True, True, False]}
WISE = {"strict": [False, True, False], "flexible": [False, True, True]}


def test_every_figure_and_every_row_of_two_models(simple: str, wise: str) -> None:
    heard = Heard()
    found = accuracy([simple, wise, simple], PROBLEMS, max_new_tokens=6, metrics=["flexible", "strict", "flexible"],
                     progress=heard)  # fmt: skip
    assert found.figures["max_new_tokens"] == 6
    assert found.figures["models"] == [
        {"name": simple, "flexible": wilson(2, 3).as_dict(), "strict": wilson(1, 3).as_dict(), "truncated": 1,
         "prompting": PROMPTING},
        {"name": wise, "flexible": wilson(2, 3).as_dict(), "strict": wilson(1, 3).as_dict(), "truncated": 0,
         "prompting": PROMPTING},
    ]  # fmt: skip
    tests = [(metric, SIMPLE[metric], WISE[metric]) for metric in ("flexible", "strict")]
    assert found.figures["comparisons"] == [
        {"a": simple, "b": wise, "metric": metric, "difference": paired_bootstrap(a, b).as_dict(),
         **mcnemar(a, b).as_dict(), "p_holm": p}
        for (metric, a, b), p in zip(tests, holm([mcnemar(a, b).p_value for _, a, b in tests]), strict=True)
    ]  # fmt: skip
    assert found.figures.keys() == {"max_new_tokens", "models", "comparisons"}
    said = {simple: ["#### 4", "5", "la la la la la la"], wise: ["#### 5", "#### 5", "1"]}
    assert found.rows == [
        {"model": model, "name": f"t.jsonl:{i + 1}", "prompt": task.prompt, "completion": said[model][i],
         "answer": task.answer, "flexible": right["flexible"][i], "strict": right["strict"][i],
         "truncated": (model, i) == (simple, 2), "tokens": tokens[i]}
        for model, right, tokens in ((simple, SIMPLE, (3, 2, 6)), (wise, WISE, (3, 3, 2)))
        for i, task in enumerate(PROBLEMS)
    ]  # fmt: skip
    assert heard.notes == [f"{simple}: 3 problems", f"{wise}: 3 problems"]
    assert heard.of("answers") == [("begin", 3), ("advance", 3, {}), ("end",)] * 2


def test_by_default_every_metric_but_text(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """math wants a package of its own: without it a note says how to have it."""
    monkeypatch.setattr(room, "find_spec", lambda name: object() if name == "math_verify" else None)
    heard = Heard()
    row = accuracy([simple], PROBLEMS[:1], progress=heard).rows[0]
    assert [metric for metric in METRICS if metric in row] == ["strict", "flexible", "math"]
    assert heard.notes == [f"{simple}: 1 problem"]
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    found = accuracy([simple], PROBLEMS[:1], progress=heard)
    assert [metric for metric in METRICS if metric in found.rows[0]] == ["strict", "flexible"]
    assert heard.notes[1] == "math-verify is not installed: pip install 'twofold[math]' adds its column"
    assert (found.figures["max_new_tokens"], found.figures["comparisons"]) == (256, [])


def test_mistakes_are_named_before_a_model_is_opened() -> None:
    with pytest.raises(RecipeError) as refused:
        accuracy(["no such model"], PROBLEMS, metrics=["strict", "stricter", "loose"])
    assert str(refused.value) == ("--metrics: 'stricter' is no metric\n  → some of strict, flexible, math, text")
    with pytest.raises(DataError, match=r"^t\.jsonl:1: the answer 'none'"):
        accuracy(["no such model"], [Task("p", "none", Source("t.jsonl", 1))], metrics=["flexible"])
    with pytest.raises(DataError) as refused:
        refuse_unanswerable([Task("p", "#### ", Source("t.jsonl", 8))], ["text"])
    assert str(refused.value) == "t.jsonl:8: the answer is empty\n  → write it behind `####`, or remove the row"


def test_only_the_metrics_that_are_counted_must_read_the_answers() -> None:
    fraction = [Task("p", "3/4", Source("t", 1))]
    refuse_unanswerable(fraction, ["math", "text"])
    for metric in ("strict", "flexible"):
        with pytest.raises(DataError):
            refuse_unanswerable(fraction, ["text", metric])
    refuse_unanswerable(tasks("paris"), [])


def test_answers_come_256_at_a_time_under_the_seed() -> None:
    heard, sampler = Heard(), Recites({f"q{i}": "x" for i in range(258)})
    found = answers(sampler, tasks(*"1" * 258), Letters(), Prompting(), progress=heard, seed=5)
    assert sampler.asked == [(256, 1, (5, 0)), (2, 1, (5, 0))]
    assert heard.of("answers") == [("begin", 258), ("advance", 256, {}), ("advance", 2, {}), ("end",)]
    assert [row.name for row in found] == [f"test.jsonl:{i}" for i in range(1, 259)]
    answers(sampler, tasks("1"), Letters(), Prompting())
    assert sampler.asked[-1] == (1, 1, (0, 0))


def test_no_answers_are_no_verdicts() -> None:
    assert verdicts([], ["strict", "math"]) == {"strict": [], "math": []}
    assert answers(Recites({}), [], Letters(), Prompting()) == []


def test_a_chat_is_shown_as_the_model_reads_it(chatty: str) -> None:
    chat = (Message("user", "four ?"), Message("assistant", "4"), Message("user", "seven ?"))
    found = accuracy([chatty], [Task(chat, "7", Source("t", 1))], metrics=["flexible"])
    assert (found.rows[0]["prompt"], found.rows[0]["completion"]) == ("Q: four ? A: 4 Q: seven ? A:", "7")
    assert found.rows[0]["flexible"] is True
    prompting = found.figures["models"][0]["prompting"]
    assert (prompting["style"], prompting["first prompt"]) == ("chat", "Q: four ? A: 4 Q: seven ? A:")


def test_every_problem_is_answered_and_what_was_said_stays() -> None:
    sampler = Falters({"q0": "1", "q1": "2"})
    for draw in (
        lambda: answers(sampler, tasks("1", "2"), Letters(), Prompting()),
        lambda: exact_match(sampler, tasks("1", "2"), Letters()),
        lambda: solve(sampler, tasks("1", "2"), Letters(), 2),
    ):
        with pytest.raises(ValueError):
            draw()
    (row,) = answers(Recites({"q0": "1"}), tasks("1"), Letters(), Prompting())
    judged = exact_match(Recites({"q0": "1"}), tasks("1"), Letters())
    refuse_changes(row, judged.rows[0], slots=True)
    refuse_changes(judged, AccuracySettings())
    for settings in (AccuracySettings, PromptSettings):
        with pytest.raises(TypeError):
            settings("answers")  # type: ignore[misc]  # settings are keywords
    assert isinstance(row, Answered)
