"""GSM8K files for the recipes. A pair is a better answer over the policy's own to the same prompt, whatever its
correctness, as PDPO's source had it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.harness.files import read_rows
from twofold.rewards.verifier import flexible

SOLVERS = ("175b_verification", "175b_finetuning", "6b_verification", "6b_finetuning")


def key(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def pairs(better: Iterable[Mapping[str, Any]], own: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `better` (prompt and completion or answer) over the first own completion for the prompt that differs."""
    by_prompt: dict[str, str] = {}
    for row in own:
        by_prompt.setdefault(key(row["prompt"]), row["completion"])
    found: list[dict[str, Any]] = []
    for row in better:
        chosen = row.get("completion", row.get("answer"))
        rejected = by_prompt.get(key(row["prompt"]))
        if rejected and rejected.strip() and rejected != chosen:
            found.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
    return found


def problems(source: Path) -> list[dict[str, str]]:
    """GSM8K's own rows as prompt (the question and a line break) and answer."""
    return [{"prompt": f"{row['question']}\n", "answer": row["answer"]} for row in read_rows(source)]


def heldout(source: Path) -> list[dict[str, str]]:
    """Real correct and wrong solutions of test problems: the ground truth over the strongest solver's wrong one."""
    found: list[dict[str, str]] = []
    for row in read_rows(source):
        wrong = next((row[s]["solution"] for s in SOLVERS if not row[s]["is_correct"]), None)
        if wrong is not None:
            chosen, rejected = (_gsm8k_form(text) for text in (row["ground_truth"], wrong))
            found.append({"prompt": f"{row['question']}\n", "chosen": chosen, "rejected": rejected})
    return found


def rankings(source: Path) -> list[dict[str, Any]]:
    """Each problem's four model solutions, the correct ones above the wrong ones and tied among themselves; problems
    that have both. The ground truth is left out: it is told from a model's answer by its style."""
    found: list[dict[str, Any]] = []
    for row in read_rows(source):
        right, wrong = ([row[s]["solution"] for s in SOLVERS if row[s]["is_correct"] is x] for x in (True, False))
        texts = [_gsm8k_form(text) for text in (*right, *wrong)]
        if right and wrong and all(text.strip() for text in texts):
            scores = [1] * len(right) + [0] * len(wrong)
            found.append({"prompt": f"{row['question']}\n", "completions": texts, "scores": scores})
    return found


def _gsm8k_form(solution: str) -> str:
    """The solution with its last line as `#### N` where it has one that says `A: N`; other answers stay as they are."""
    body, _, last = solution.strip().rpartition("\n")
    if not last.startswith("A:") or not any(c.isdigit() for c in last):
        return solution.strip()
    return f"{body}\n#### {flexible(last) or last.removeprefix('A:').strip()}"
