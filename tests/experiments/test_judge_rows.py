"""Rows from which a model learns to judge: the text that a judge gets, and the reply that the judge reads."""

from __future__ import annotations

from pathlib import Path

from experiments.judge.__main__ import RUBRIC, verdicts
from twofold.judges.language_model import VERDICT, Rubric


def test_each_pair_in_both_orders_with_the_right_reply(tmp_path: Path) -> None:
    file = tmp_path / "rubric.jinja"
    file.write_text(RUBRIC, encoding="utf-8")
    pair = {"prompt": "Why?", "chosen": "So.", "rejected": "No idea."}
    forward, backward = verdicts([pair], Rubric.load("compare", file))
    question = 'Which answer does what the question demands? Reply "Verdict: A" or "Verdict: B".'
    assert forward == {
        "prompt": f"Question: Why?\n\nAnswer A: So.\n\nAnswer B: No idea.\n\n{question}",
        "completion": "Verdict: A",
    }
    assert backward == {
        "prompt": f"Question: Why?\n\nAnswer A: No idea.\n\nAnswer B: So.\n\n{question}",
        "completion": "Verdict: B",
    }
    assert VERDICT.findall(forward["completion"]) == ["A"]
