"""Rules side by side, on completions whose verdicts can be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.recital import Letters, Recites, tasks
from twofold.data.formats import read
from twofold.errors import DataError
from twofold.evaluation.answers import Answered, answers, entry, refuse_unanswerable, verdicts
from twofold.evaluation.prompting import Prompting
from twofold.records import Task
from twofold.statistics import wilson

SAID = [  # completion, answer, strict, flexible, math, text
    ("2+2\n#### 4", "#### 4", True, True, True, True),
    ("so it is 4.", "2+2=4\n#### 4", False, True, True, False),
    ("#### 4.0", "#### 4", False, True, True, False),
    (r"it is $\frac{8}{2}$", "#### 4", False, False, True, False),
    ("#### 5", "#### 4", False, False, False, False),
    ("####  4. ", "#### 4", False, True, True, True),
]


def answered(completion: str, answer: str, row: int = 1) -> Answered:
    return Answered(f"t:{row}", "q", completion, answer, False, 3)


@pytest.mark.parametrize(("at", "metric"), list(enumerate(["strict", "flexible", "math", "text"], 2)))
def test_each_rule_counts_what_it_says(at: int, metric: str) -> None:
    found = verdicts([answered(row[0], row[1]) for row in SAID], [metric])
    assert found == {metric: [row[at] for row in SAID]}


def test_text_answers_need_no_number() -> None:
    said = [answered("It is Paris", "paris"), answered("I think\n#### New  York.", "new york"), answered("", "rome")]
    said.append(answered("Cafe\u0301", "caf\u00e9"))
    assert verdicts(said, ["text"]) == {"text": [False, True, False, True]}
    refuse_unanswerable(tasks("paris"), ["text"])
    with pytest.raises(DataError, match=r"test\.jsonl:2: .*holds no number(.|\n)*--metrics math, or text"):
        refuse_unanswerable(tasks("1", "paris"), ["strict", "text"])


def test_each_metric_refuses_the_answers_that_it_cannot_read() -> None:
    for metric, fine, unreadable in (
        ("strict", "18", "3/4"), ("flexible", "18", "3/4"), ("math", "3/4", "paris"), ("text", "paris", "#### "),
    ):  # fmt: skip
        refuse_unanswerable(tasks(fine), [metric])
        with pytest.raises(DataError, match=r"^test\.jsonl:2: the answer"):
            refuse_unanswerable(tasks(fine, unreadable), [metric])


def test_answers_are_drawn_as_they_are_put_and_cut_where_the_next_problem_begins() -> None:
    worked = tasks("2")[0]
    prompting = Prompting("Q{prompt}", examples=(worked,))
    sampler = Recites({"Qq0 2\n\nQq0": " 5\n\nQ7 8", "Qq0 2\n\nQq1": " 1…"})
    one, two = answers(sampler, tasks("5", "6"), Letters(), prompting)
    assert (one.prompt, one.completion, one.tokens, one.truncated) == ("Qq0 2\n\nQq0", " 5", 8, False)
    assert (two.name, two.truncated) == ("test.jsonl:2", True)


def test_an_entry_can_be_counted_again_from_its_rows() -> None:
    found = [answered("#### 4", "#### 4", 1), answered("4", "#### 4", 2), answered("5", "#### 4", 3)]
    told = entry("m", found, verdicts(found, ["strict", "flexible"]), Prompting())
    assert told.as_dict()["strict"] == wilson(1, 3).as_dict()
    assert told.as_dict()["flexible"] == wilson(2, 3).as_dict()
    assert [sum(row[m] for row in told.rows) for m in ("strict", "flexible")] == [1, 2]
    assert told.rows[1] == {
        "model": "m", "name": "t:2", "prompt": "q", "completion": "4", "answer": "#### 4", "strict": False,
        "flexible": True, "truncated": False, "tokens": 3,
    }  # fmt: skip
    assert told.as_dict()["prompting"]["first prompt"] == "q"


def test_gsm8ks_own_answers_are_right(shared: Path) -> None:
    """All 1319 worked answers by each rule."""
    problems = read(str(shared / "data" / "gsm8k" / "test.jsonl")).records
    found = [answered(p.answer, p.answer) for p in problems if isinstance(p, Task)]
    right = {metric: sum(told) for metric, told in verdicts(found, ["strict", "flexible", "math"]).items()}
    assert right == {"strict": 1319, "flexible": 1319, "math": 1319}
