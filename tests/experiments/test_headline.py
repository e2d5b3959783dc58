"""What papers report beside ours: nothing is compared that is not alike, and the source's gain is told as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from experiments.headline.__main__ import main
from experiments.headline.papers import (
    Ours,
    Setup,
    comparable,
    most_changed,
    of_results,
    rows,
    setup_of,
    source_gain,
    table,
)
from twofold.statistics import wilson

SAME = Setup("Qwen2-7B-Instruct", "GSM8K test, 1319 problems", "exact match")


def results(policy: int, n: int = 1319) -> dict[str, Any]:
    models = (("base", 1130), ("policy", policy))
    return {"models": [{"name": name, "strict": wilson(count, n).as_dict()} for name, count in models]}


def test_every_row_has_its_source_and_how_it_was_read() -> None:
    assert len(rows()) == len({row["id"] for row in rows()}) == 34
    assert all({"paper", "value", "status"} <= row.keys() for row in rows())
    lines = {line[0]: line for line in table({})}
    assert lines["kto.gsm8k"][3:5] == ("13.5", "in its text")
    assert lines["oaif.tldr"][4] == "in notes that quote it"
    assert lines["grpo.gsm8k"][3] == "82.9 / 46.8 → 88.2 / 51.7"
    assert all(line[-1] == "not measured" for line in lines.values())


@pytest.mark.parametrize("other", ["model", "data", "judge"])
def test_figures_are_compared_only_where_model_data_and_judge_are_the_same(other: str) -> None:
    (row,) = (r for r in rows() if r["id"] == "pdpo.pdpo")
    ours = Ours(wilson(1150, 1319), SAME)
    assert comparable(row, ours) == "yes"
    assert comparable(row, replace(ours, setup=replace(SAME, **{other: "another"}))) == "not comparable (scale)"
    assert comparable({"id": "x"}, ours) == "not comparable (scale)"


def test_ours_stand_in_their_rows_with_n_and_interval() -> None:
    small = replace(SAME, model="Qwen2 of 3M parameters")
    lines = {line[0]: line[5:] for line in table(of_results(results(1140), results(1135), small))}
    assert lines["pdpo.pdpo"] == ("86.4%", "1319", "84.5 – 88.2%", "not comparable (scale)")
    assert lines["pdpo.dpo"][0] == "86.1%"
    assert lines["pdpo.base"][0] == "85.7%"
    assert "pdpo.dpo" not in of_results(results(1140), None, small)


def test_the_sources_gain_is_within_noise() -> None:
    """From its counts: 1162 against 1149 of 1319."""
    assert "13 of 1319 problems, is within noise: z = 0.77, p = 0.442" in source_gain()
    most = most_changed(13)
    p_values = [stats.binomtest((m - 13) // 2, m).pvalue for m in (most, most + 2)]
    assert p_values[0] < 0.05 <= p_values[1]
    assert f"at most {most} problems" in source_gain()


def test_a_runs_setup_is_read_off_its_folder(tmp_path: Path) -> None:
    (tmp_path / "resolved.yaml").write_text("model: {path: Qwen/Qwen2-7B-Instruct}\n")
    assert setup_of(tmp_path, results(1140)) == SAME
    assert setup_of(tmp_path, results(1140, 1200)) != SAME


def test_the_command_prints_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resolved.yaml").write_text("model: {path: Qwen/Qwen2-7B-Instruct}\n")
    (tmp_path / "results.json").write_text(json.dumps(results(1140)))
    monkeypatch.setattr("sys.argv", ["headline", "--pdpo", str(tmp_path)])
    main()
    said = capsys.readouterr().out
    assert "| 88.1 | in its text | 86.4% | 1319 | 84.5 – 88.2% | yes |" in said
    assert said.count("\n| ") == 35
