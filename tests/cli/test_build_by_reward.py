"""A reward model trained from comparisons judges answers to new prompts: from pairs to a model to pairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.cli.main import main
from twofold.data.formats import read
from twofold.models.load import ModelSettings
from twofold.progress import Silent
from twofold.records import Pair, Ranking
from twofold.rewards.model import ModelScorer

Run = Callable[..., Any]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def settings(folder: Path, model: Path, kind: str) -> Path:
    """A recipe on pairs that prefer what ends in `!`."""
    pairs = [{"prompt": f"{n}?", "chosen": f"{n % 7}!", "rejected": f"{n % 5}."} for n in range(32)]
    recipe = {
        "model": {"path": str(model), "precision": "float32"},
        "data": {"train": str(lines(folder / "pairs.jsonl", *pairs))},
        "objective": {"kind": kind},
        "training": {"steps": 16, "batch_size": 16},
        "optimizer": {"learning_rate": 0.02},
        "run": str(folder / "run"),
    }
    return lines(folder / f"{kind}.yaml", recipe)


@pytest.fixture(scope="module")
def reward(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    with pytest.raises(SystemExit) as end:
        main(["train", str(settings(folder, model_folder, "bradley_terry"))])
    assert not end.value.code
    return folder / "run"


def test_pairs_prefer_what_the_model_learnt_and_scores_higher(twofold: Run, reward: Path, tmp_path: Path) -> None:
    told = [{"prompt": f"new {n}?", "answers": [f"{n}.", f"{n}!", f"a{n}."]} for n in range(8)]
    file, out = lines(tmp_path / "answers.jsonl", *told), tmp_path / "built.jsonl"
    answer = twofold("data", "build", file, "--judge", f"reward:{reward}", "--out", out)
    assert answer.code == 0, answer.err
    assert f"{out}: 8 pairs from 8 of 8 prompts" in answer.out
    built = read(str(out)).records
    assert [r.chosen for r in built if isinstance(r, Pair)] == [f"{n}!" for n in range(8)]
    scored = twofold("score", out, "--judge", f"reward:{reward}", "--out", tmp_path / "scored.jsonl")
    assert scored.code == 0, scored.err
    assert scored.out.splitlines()[-1].split()[:2] == ["8", "100.0%"]
    for row in map(json.loads, (tmp_path / "scored.jsonl").read_text(encoding="utf-8").splitlines()):
        assert row["provenance"]["scores"] == pytest.approx([row["chosen_score"], row["rejected_score"]], abs=1e-5)


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_the_model_is_refused_as_a_policy(twofold: Run, reward: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    answer = twofold("train", settings(tmp_path, reward / "model", "dpo"), *options)
    assert answer.code == 2
    assert f"{reward / 'model'}: is a reward model, not a language model" in answer.err
    assert not (tmp_path / "run" / "model").exists()


def test_own_samples_are_ranked_by_the_model(twofold: Run, reward: Path, model_folder: Path, tmp_path: Path) -> None:
    prompts = lines(tmp_path / "prompts.jsonl", *({"prompt": f"q{n}"} for n in range(4)))
    out = tmp_path / "rankings.jsonl"
    command = ("data", "build", prompts, "--model", model_folder, "--judge", f"reward:{reward}", "--as", "rankings",
               "--samples", 4, "--keep-truncated", "--out", out, "sampling.max_new_tokens=4")  # fmt: skip
    answer = twofold(*command)
    assert answer.code == 0, answer.err
    records = read(str(out)).records
    scorer = ModelScorer.load(ModelSettings(path=str(reward / "model")))
    assert len(records) == 4
    for record, again in zip(records, scorer.score(records, Silent()), strict=True):
        assert isinstance(record, Ranking)
        assert record.scores is not None
        assert list(record.scores) == sorted(record.scores, reverse=True)
        assert again == pytest.approx(record.scores, abs=1e-5)


def labeled(folder: Path) -> Path:
    """Three labeled pairs, of which the reward model orders two as people did."""
    sides = (("!", "."), ("!", "."), (".", "!"))
    rows = [{"prompt": f"{n}?", "chosen": f"{n}{a}", "rejected": f"{n}{b}"} for n, (a, b) in enumerate(sides)]
    return lines(folder / "labeled.jsonl", *rows)


def test_a_build_reports_its_judges_own_accuracy(twofold: Run, reward: Path, tmp_path: Path) -> None:
    file = lines(tmp_path / "answers.jsonl", {"prompt": "new?", "answers": ["1.", "1!"]})
    call = ("data", "build", file, "--judge", f"reward:{reward}", "--out", tmp_path / "built.jsonl")
    answer = twofold(*call)
    assert (answer.code, "its own accuracy is not measured (--judge-pairs FILE)" in answer.out) == (0, True), answer.err
    answer = twofold(*call, "--judge-pairs", labeled(tmp_path))
    assert answer.code == 0, answer.err
    assert "right on 66.7% [20.8 – 93.9%] of 3 labeled pairs" in answer.out
    stored = json.loads((tmp_path / "built.judge.json").read_text(encoding="utf-8"))
    assert stored["judges"][0]["accuracy"]["count"] == 2
    for extra, message in (
        (("--judge", "verifier"), "--judge verifier is not measured on pairs"), (("--shard", "0/2"), "in shards"),
    ):  # fmt: skip
        refused = twofold(*call, "--judge-pairs", labeled(tmp_path), *extra)
        assert (refused.code, message in refused.err) == (2, True), refused.err


def test_the_best_of_n_reports_its_rewards_own_accuracy(
    twofold: Run, reward: Path, model_folder: Path, tmp_path: Path
) -> None:  # fmt: skip
    problems = lines(tmp_path / "problems.jsonl", {"question": "1 + 1 = ", "answer": "2"})
    best = f"{model_folder}@best-of:2?reward=reward:{reward}"
    call = ("evaluate", best, "--tasks", problems, "--max-new-tokens", 2, "--metrics", "strict")
    out = tmp_path / "out"
    answer = twofold(*call)
    assert (answer.code, "its own accuracy is not measured" in answer.out) == (0, True), answer.err
    answer = twofold(*call, "--judge-pairs", labeled(tmp_path), "--out", out)
    assert answer.code == 0, answer.err
    assert "right on 66.7% [20.8 – 93.9%] of 3 labeled pairs" in answer.out
    (line,) = json.loads((out / "results.json").read_text(encoding="utf-8"))["rewards"]
    assert (line["name"], line["accuracy"]["count"], line["pairs"]) == (
        f"reward:{reward}", 2, str(tmp_path / "labeled.jsonl")
    )  # fmt: skip
    refused = twofold("evaluate", model_folder, "--tasks", problems, "--judge-pairs", labeled(tmp_path))
    assert (refused.code, "no judge and no player" in refused.err) == (2, True)
