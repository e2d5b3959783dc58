"""`twofold score --steps`, and the best of samples by the scores of their steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from twofold.data.formats import read
from twofold.data.steps import keep_separator
from twofold.evaluation.players import parse_player
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy
from twofold.progress import Silent
from twofold.records import Ranking, Source
from twofold.rewards.steps import StepScorer

Run = Callable[..., Any]
TOTALS: dict[str, Callable[[list[float]], float]] = {
    "min": min, "product": math.prod, "mean": fmean, "last": lambda steps: steps[-1],
}  # fmt: skip
STEPS = [
    {"prompt": f"{a}+1?", "completions": [f"{a}+1", f"={a + 1 + a % 2}"], "labels": [True, a % 2 == 0]}
    for a in range(1, 7)
]


@pytest.fixture
def process(model_folder: Path, tmp_path: Path) -> Path:
    """A process reward model with a random head."""
    held, loaded = load_reward_model(ModelSettings(path=str(model_folder), precision="float32"))
    keep_separator(loaded.tokenizer, "\n")
    save_policy(held, loaded.tokenizer, tmp_path / "prm")
    return tmp_path / "prm"


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_score_is_made_of_those_of_the_steps(twofold: Run, process: Path, tmp_path: Path) -> None:
    file, out = lines(tmp_path / "steps.jsonl", STEPS), tmp_path / "out.jsonl"
    found: dict[str, list[dict[str, Any]]] = {}
    for how in TOTALS:
        answer = twofold("score", file, "--judge", f"process:{process}?steps={how}", "--out", out, "--steps")
        assert answer.code == 0, answer.err
        found[how] = written(out)
        for name in ("step accuracy", "right steps", "75.0%", "first error located", "first-error F1"):
            assert name in answer.out
        assert found[how][0]["scored_by"] == {"kind": "process", "model": str(process), "steps": how}
    for how, total in TOTALS.items():
        for row, first in zip(found[how], found["min"], strict=True):
            assert row["step_scores"] == first["step_scores"]
            assert len(row["step_scores"]) == 2
            assert all(0 < p < 1 for p in row["step_scores"])
            assert row["score"] == pytest.approx(total(row["step_scores"]))
    assert read(str(out)).format == "prompt + completions (steps) + labels"  # its scores are no unread keys
    answer = twofold("score", file, "--judge", f"process:{process}", "--out", out)
    assert (answer.code, [row["score"] for row in written(out)]) == (0, [row["score"] for row in found["min"]])
    assert "step_scores" not in written(out)[0]
    assert "step accuracy" not in answer.out


def test_texts_are_split_at_what_the_model_was_trained_with(twofold: Run, process: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "1+1?", "chosen": "1+1\n=2", "rejected": "3"},
        {"prompt": "1+2?", "chosen": "3\n\nyes\n", "rejected": "4\n5"},
    ]
    file, out = lines(tmp_path / "pairs.jsonl", rows), tmp_path / "out.jsonl"
    answer = twofold("score", file, "--judge", f"process:{process}", "--out", out, "--steps")
    assert answer.code == 0, answer.err
    found = written(out)
    assert [(len(r["chosen_step_scores"]), len(r["rejected_step_scores"])) for r in found] == [(2, 1), (2, 2)]
    assert all(r["chosen_score"] == min(r["chosen_step_scores"]) for r in found)
    ranking = lines(tmp_path / "ranking.jsonl", [{"prompt": "1+1?", "completions": ["1+1\n=2", "3"]}])
    assert twofold("score", ranking, "--judge", f"process:{process}", "--out", out, "--steps").code == 0
    (row,) = written(out)
    assert row["reward_step_scores"][0] == pytest.approx(found[0]["chosen_step_scores"], abs=1e-6)
    assert row["reward_scores"] == [min(steps) for steps in row["reward_step_scores"]]


def test_shards_give_the_same_file(twofold: Run, process: Path, tmp_path: Path) -> None:
    file, out, apart = lines(tmp_path / "steps.jsonl", STEPS), tmp_path / "out.jsonl", tmp_path / "apart.jsonl"
    words = ("score", file, "--judge", f"process:{process}", "--steps", "--out")
    assert twofold(*words, out).code == 0
    for shard in range(2):
        assert twofold(*words, apart, "--shard", f"{shard}/2").code == 0
    answer = twofold("data", "merge", apart)
    assert answer.code == 0, answer.err
    assert "step accuracy" in answer.out
    one, other = ([row["step_scores"] for row in written(path)] for path in (out, apart))
    assert [p for row in one for p in row] == pytest.approx([p for row in other for p in row], abs=1e-6)


def test_mistakes_are_short(twofold: Run, process: Path, model_folder: Path, tmp_path: Path) -> None:
    file, out = lines(tmp_path / "steps.jsonl", STEPS), tmp_path / "out.jsonl"
    for judge, message in (
        (f"reward:{process}", f"process:{process}"),
        (f"process:{model_folder}", "this is no process reward model"),
        (f"process:{process}?steps=max", "the judge is written process:FOLDER[?steps=min|product|last|mean]"),
    ):
        answer = twofold("score", file, "--judge", judge, "--out", out)
        assert answer.code == 2
        assert message in " ".join(answer.err.split())
    answer = twofold("score", file, "--judge", "verifier", "--out", out, "--steps")
    assert answer.code == 2
    assert "verifier rates no steps: name process:FOLDER" in answer.err
    assert not out.exists()


def test_a_player_is_the_best_of_its_samples_by_their_steps(
    twofold: Run, process: Path, model_folder: Path, tmp_path: Path
) -> None:
    """The answers are the samples with the highest score, whatever the score is made of."""
    tasks = lines(tmp_path / "tasks.jsonl", [{"prompt": f"{a} + 1 = ", "answer": f"#### {a + 1}"} for a in range(3)])
    reward = f"process:{process}?steps=product"
    player = f"{model_folder}@best-of:4?reward={reward}"
    assert parse_player(player).reward == reward
    words = ("--tasks", tasks, "--task", "answers", "--out", tmp_path / "out", "--max-new-tokens", 6)
    answer = twofold("evaluate", player, *words)
    assert answer.code == 0, answer.err
    ledger, rows = (written(tmp_path / "out" / name) for name in ("ledger.jsonl", "rows.jsonl"))
    drawn = [row["reply"]["text"] for row in ledger]
    assert len(drawn) == 12
    scorer = StepScorer.load(str(process), how="product")
    for row, texts in zip(rows, zip(*[iter(drawn)] * 4, strict=True), strict=True):
        (scores,) = scorer.score([Ranking(row["prompt"], texts, Source("x", 1))], Silent())
        assert row["completion"] == texts[scores.index(max(scores))]


def test_a_search_is_guided_by_a_model_of_rewards(
    twofold: Run, process: Path, model_folder: Path, tmp_path: Path
) -> None:
    """Each guide is recorded with its digest, so that a second search draws none of the answers of the first."""
    tasks = lines(tmp_path / "tasks.jsonl", [{"prompt": f"{a} + 1 = ", "answer": f"#### {a + 1}"} for a in range(2)])
    players = [f"{model_folder}@beam:2{guide}" for guide in ("", f"?guide=process:{process}?steps=last")]
    words = ("--tasks", tasks, "--task", "answers", "--out", tmp_path / "out", "--max-new-tokens", 3)
    for _ in range(2):
        answer = twofold("evaluate", *players, *words)
        assert answer.code == 0, answer.err
        searched = [row["request"]["beams"] for row in written(tmp_path / "out" / "ledger.jsonl")]
        assert [len(about.get("guide", "")) for about in searched] == [0, 0, 64, 64]
    assert [row["model"] for row in written(tmp_path / "out" / "rows.jsonl")] == [p for p in players for _ in range(2)]
