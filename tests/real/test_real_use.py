"""What one does with a real model, before and after training, beside transformers alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import twofold
from support.real_model import (
    EXACT,
    QUESTIONS,
    ROUNDED,
    Independent,
    chat_rows,
    read_lines,
    rms,
    steps_of,
    tolerance,
    verb,
    write_lines,
)

pytestmark = pytest.mark.real
SIDES = {"chosen": 1, "rejected": 2}


def margins(model: Independent) -> dict[str, dict[str, float]]:
    """By side and question, the log-probability of the answer."""
    return {s: {row[0]: float(model.logps(row[0], row[i]).sum()) for row in QUESTIONS} for s, i in SIDES.items()}


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"prompt": row["prompt"]} for row in chat_rows()]
    return write_lines(tmp_path_factory.mktemp("data") / "questions.jsonl", rows)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the same answers to other questions, on which a run may be measured."""
    rows = chat_rows()[:2]
    for row in rows:
        row["prompt"][0]["content"] = f"Tell me: {row['prompt'][0]['content']}"
    return write_lines(tmp_path_factory.mktemp("data") / "unseen.jsonl", rows)


@pytest.mark.parametrize(("precision", "bound"), [("float32", EXACT), ("bfloat16", ROUNDED)])
def test_a_policy_says_what_transformers_says(
    real_model: Path, base: Independent, precision: Any, bound: float
) -> None:
    policy, loaded = twofold.load_policy(twofold.ModelSettings(path=str(real_model), precision=precision))
    assert policy.shared, policy.sharing_note
    encoder = twofold.Encoder(loaded.tokenizer, loaded.stop_tokens)
    groups = []
    for row, (question, chosen, rejected) in zip(chat_rows(), QUESTIONS, strict=True):
        turns = tuple(twofold.Message(**turn) for turn in row["prompt"])
        groups.append(encoder.group(twofold.Pair(turns, chosen, rejected, twofold.Source("here", 1))))
        assert groups[-1].prompt.tolist() == base.prompt(question)
        assert groups[-1].branches[0].tokens.tolist() == base.answer(chosen)
    own = torch.cat([logps for row in policy.logps(groups) for logps in row])
    theirs = torch.cat([base.logps(question, answer) for question, *answers in QUESTIONS for answer in answers])
    assert rms(own, theirs) < bound


def test_the_first_figures_are_those_of_transformers(run: Path, base: Independent) -> None:
    first = steps_of(run)[0]
    for side, column in (("chosen", 1), ("rejected", 2)):
        own = [base.logps(row[0], row[column]) for row in QUESTIONS]
        assert first[f"{side}_length"] == sum(map(len, own)) / len(own)
        assert first[f"{side}_logp"] == pytest.approx(sum(float(x.sum()) for x in own) / len(own), abs=EXACT)


def test_greedy_drafts_are_those_of_generate(real_model: Path, base: Independent) -> None:
    loaded = twofold.load_model(twofold.ModelSettings(path=str(real_model), precision="float32"))
    greedy = twofold.Sampling(temperature=0, max_new_tokens=16)
    sampler = twofold.LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, greedy)
    prompts = [base.prompt(question) for question, *_ in QUESTIONS]
    drafts = sampler.sample([torch.tensor(prompt) for prompt in prompts])
    for prompt, (draft,) in zip(prompts, drafts, strict=True):
        row = base.model.generate(torch.tensor([prompt]), max_new_tokens=16, do_sample=False)[0, len(prompt) :]
        assert draft.tokens.tolist() == row.tolist()


def test_drafts_bring_the_log_probability_of_their_text(base: Independent, real_model: Path, tmp_path: Path) -> None:
    """A rare word may be drawn in other tokens than its text has, so a quarter of the drafts may differ."""
    out = tmp_path / "drafts.jsonl"
    question = QUESTIONS[0][0]
    verb("sample", real_model, "--prompt", question, "-n", 8, "--max-new-tokens", 12, "--out", out)
    rows = read_lines(out)
    assert len({row["completion"] for row in rows}) == 8
    equal = 0
    for row in rows:
        logps = base.logps(question, row["completion"], ended=not row["truncated"])
        equal += len(logps) == row["tokens"] and row["logp"] == pytest.approx(float(logps.sum()), abs=tolerance())
    assert equal >= 6


def test_beams_are_led_by_the_log_ratio(
    run: Path, real_model: Path, base: Independent, merged: Independent, tmp_path: Path
) -> None:
    out, question = tmp_path / "beams.jsonl", QUESTIONS[1][0]
    how = ["--beam", 2, "--reference", real_model, "--max-new-tokens", 6, "--out", out]
    verb("sample", run, "--prompt", question, *how)
    rows = read_lines(out)
    assert len(rows) == 2
    assert rows[0]["score"] >= rows[1]["score"]
    for row in rows:
        text, ended = row["completion"], not row["truncated"]
        own, other = (float(m.logps(question, text, ended=ended).sum()) for m in (merged, base))
        assert row["score"] == pytest.approx(own - other, abs=2 * tolerance())
    greedy = read_lines(sampled_greedily(run, question, tmp_path))[0]["completion"]
    ratio = [float(m.logps(question, greedy, ended=False).sum()) for m in (merged, base)]
    assert rows[0]["score"] > ratio[0] - ratio[1]


def sampled_greedily(model: Path, question: str, folder: Path) -> Path:
    out = folder / "greedy.jsonl"
    verb("sample", model, "temperature=0", "--prompt", question, "--max-new-tokens", 6, "--out", out)
    return out


def test_a_reward_model_orders_the_pairs_it_learnt(reward: Path, tmp_path: Path, pairs: Path) -> None:
    first, second = steps_of(reward)
    assert second["loss"] < first["loss"] - 0.1
    verb("score", pairs, "--judge", f"reward:{reward}", "--out", tmp_path / "scored.jsonl")
    scored = read_lines(tmp_path / "scored.jsonl")
    assert all(row["chosen_score"] > row["rejected_score"] for row in scored)


@torch.no_grad()
def test_best_of_n_takes_the_one_that_the_reward_model_prefers(
    reward: Path, real_model: Path, base: Independent, tmp_path: Path
) -> None:
    verb("export", reward, tmp_path / "reward", "--dtype", "float32")
    judge = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward", dtype=torch.float32).eval()
    out, question = tmp_path / "best.jsonl", QUESTIONS[2][0]
    how = ["--best-of", 3, "--reward", reward, "--max-new-tokens", 12, "--out", out]
    verb("sample", real_model, "--prompt", question, *how)
    (row,) = read_lines(out)
    assert row["score"] == max(row["scores"])
    assert len(set(row["scores"])) == 3
    ids = base.prompt(question) + base.answer(row["completion"])
    assert row["score"] == pytest.approx(judge(torch.tensor([ids])).logits.item(), abs=tolerance() / 4)


def test_evaluation_counts_what_transformers_counts(
    run: Path, real_model: Path, unseen: Path, base: Independent, merged: Independent, tmp_path: Path
) -> None:
    out = tmp_path / "figures.json"
    verb("evaluate", real_model, run, "--task", "perplexity", "--tasks", unseen, "--json", out)
    figures = json.loads(out.read_text(encoding="utf-8"))
    for entry, model in zip(figures["models"], (base, merged), strict=True):
        for side, column in SIDES.items():
            rows = [model.logps(f"Tell me: {row[0]}", row[column]) for row in QUESTIONS[:2]]
            nats = -sum(float(x.sum()) for x in rows)
            tokens = sum(map(len, rows))
            known = entry[f"{side}_perplexity"]["value"]
            assert math.log(known) == pytest.approx(nats / tokens, abs=tolerance() / 4), (side, entry["name"])


def test_a_win_rate_is_what_the_judge_says_of_both_answers(
    run: Path, real_model: Path, reward: Path, questions: Path, tmp_path: Path
) -> None:
    found = twofold.win_rate(
        [str(run)], twofold.read(str(questions)).records[:2], against=str(real_model), judge=f"reward:{reward}",
        temperatures=(0.0,), max_new_tokens=8, canary="",
    )  # fmt: skip
    rows = [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": row["other"]}
        for row in found.rows
        if row["completion"] != row["other"]
    ]
    assert rows, "a trained model says something else"
    data, out = write_lines(tmp_path / "games.jsonl", rows), tmp_path / "scored.jsonl"
    verb("score", data, "--judge", f"reward:{reward}", "--out", out)
    shares = {row["prompt"][0]["content"]: row["share"] for row in found.rows}
    for row in read_lines(out):
        assert shares[row["prompt"][0]["content"]] == (row["chosen_score"] > row["rejected_score"])


def test_explain_credits_each_token_with_its_log_ratio(
    run: Path, real_model: Path, pairs: Path, base: Independent, merged: Independent, tmp_path: Path
) -> None:
    out = tmp_path / "explained.json"
    verb("explain", run, pairs, "--json", out, "--fewest", 2)
    told = json.loads(out.read_text(encoding="utf-8"))
    assert told["accuracy"]["value"] == 1
    for row, (question, *answers) in zip(told["rows"], QUESTIONS, strict=True):
        for completion, answer in zip(row["completions"], answers, strict=True):
            ratio = merged.logps(question, answer) - base.logps(question, answer)
            credits = [token["credit"] for token in completion["tokens"]]
            assert credits == pytest.approx((0.1 * ratio).tolist(), abs=0.2 * tolerance())
            assert completion["reward"] == pytest.approx(sum(credits), abs=1e-3)


def test_what_is_exported_is_what_was_trained(
    run: Path, base: Independent, merged: Independent, tmp_path: Path
) -> None:
    last, exported = steps_after(run), margins(merged)
    assert exported["chosen"] == pytest.approx(last["chosen"], abs=10 * EXACT)
    assert exported["rejected"] == pytest.approx(last["rejected"], abs=10 * EXACT)
    verb("export", run, tmp_path / "auto")
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "auto", dtype="auto")
    assert stored.dtype == torch.bfloat16  # as the base is
    own = Independent.of(tmp_path / "auto")
    assert own.tokenizer.chat_template == base.tokenizer.chat_template
    rounded, exact = (torch.cat([m.logps(q, chosen) for q, chosen, _ in QUESTIONS]) for m in (own, merged))
    assert 0 < rms(rounded, exact) < 5 * ROUNDED  # weights have 8 bits now, and have moved far


def steps_after(run: Path) -> dict[str, dict[str, float]]:
    """What the adapter in a run's folder says of the answers, without merging it."""
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    model = AutoPeftModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32).eval()
    return margins(Independent(model, AutoTokenizer.from_pretrained(run / "model")))
