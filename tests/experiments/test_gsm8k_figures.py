"""Runs on GSM8K beside each other: the same problems, paired tests, Holm, and the papers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.gsm8k.figures import entries, over_seeds, tables
from twofold.errors import DataError
from twofold.evaluation.figures import comparisons
from twofold.statistics import holm, mcnemar, wilson


def _run(folder: Path, policy: list[bool]) -> Path:
    folder.mkdir()
    base = [i % 2 == 0 for i in range(len(policy))]
    lines = [
        {"step": step, "name": f"t:{i}", "prompt": "p", "strict": right, "flexible": right}
        for step, row in ((0, base), (5, [False] * len(policy)), (9, policy))
        for i, right in enumerate(row)
    ]
    lines.append({"step": 9, "prompt": "a draft", "completion": "no verdict"})
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    models = [{"name": n, "strict": wilson(sum(r), len(r)).as_dict()} for n, r in (("base", base), ("policy", policy))]
    (folder / "results.json").write_text(json.dumps({"models": models}))
    (folder / "resolved.yaml").write_text("model: {path: tiny}")
    return folder


def test_every_two_models_are_paired_with_holm(tmp_path: Path) -> None:
    dpo, pdpo = [True] * 30 + [False] * 10, [True] * 38 + [False] * 2
    runs = [_run(tmp_path / "d", dpo), _run(tmp_path / "p", pdpo)]
    made = entries(runs[1:], runs[:1])
    assert [e.name for e in made] == ["base", "DPO, run 1", "PDPO, run 1"]
    tests = [t for t in comparisons(made) if (t["a"], t["b"]) == ("DPO, run 1", "PDPO, run 1")]
    assert tests[0]["p_value"] == pytest.approx(mcnemar(dpo, pdpo).p_value)
    every = comparisons(made)
    assert [t["p_holm"] for t in every] == holm([t["p_value"] for t in every])
    text = tables(runs[1:], runs[:1])
    assert "| DPO, run 1 | 75.0% [" in text
    assert "not comparable (scale)" in text
    assert "within noise" in text
    assert over_seeds(made) is None


def test_with_seeds_the_difference_is_told_over_them(tmp_path: Path) -> None:
    dpo = [_run(tmp_path / f"d{i}", [True] * n + [False] * (40 - n)) for i, n in enumerate((20, 22, 21))]
    pdpo = [_run(tmp_path / f"p{i}", [True] * n + [False] * (40 - n)) for i, n in enumerate((22, 26, 24))]
    found = over_seeds(entries(pdpo, dpo))
    assert found is not None
    assert (found.n, found.value) == (3, pytest.approx(3 / 40))
    assert "over 3 seeds: +7.5" in tables(pdpo, dpo)


def test_other_problems_and_runs_without_any_are_refused(tmp_path: Path) -> None:
    runs = [_run(tmp_path / "a", [True] * 4), _run(tmp_path / "b", [True] * 5)]
    with pytest.raises(DataError, match="other problems"):
        entries(runs[:1], runs[1:])
    (tmp_path / "a" / "samples.jsonl").unlink()
    with pytest.raises(DataError, match="no verdicts"):
        entries(runs[:1], [])


def test_without_runs_the_papers_stand_alone() -> None:
    assert tables([], []).startswith("| id | paper |")
