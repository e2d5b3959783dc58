"""`twofold evaluate` on judged benchmarks: data and answers in files, a judge behind a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.benchmark_judges import probabilities, written
from support.openai_stub import Stub

Run = Callable[..., Any]
PROMPTS = {"one": 0.75, "two": 0.25, "three": 0.9}
GAMED = "model,index,std_delta_len,preference,instruction_difficulty,not_gamed_baseline\n" + "".join(
    f"m,{i % 3},{1.2 if i < 3 else -0.9},{0.2 if i < 3 else 0.6},{i % 3 - 1},False\n" for i in range(6)
)


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "A")
    yield server
    server.close()


def answers(path: Path, letter: str) -> str:
    return written(path, [{"prompt": p, "completion": letter * (i + 2)} for i, p in enumerate(PROMPTS)])


def test_alpaca_eval_of_two_players(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    stub.logprobs = probabilities(PROMPTS, lambda text: text[0] in "mn")
    rows = [{"instruction": p, "output": "bbb", "dataset": "koala" if p == "one" else "vicuna"} for p in PROMPTS]
    data, out = written(tmp_path / "data.jsonl", rows), tmp_path / "out"
    (tmp_path / "df_gamed.csv").write_text(GAMED, encoding="utf-8")
    players = answers(tmp_path / "m.jsonl", "m"), answers(tmp_path / "n.jsonl", "n")
    call = ("evaluate", *players, "--task", "alpaca-eval", "--tasks", data, "--judge", f"llm-prob:{stub.url}#j",
            "--price", "j=1,2", "--out", out)  # fmt: skip
    told = twofold(*call)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [m["win_rate"]["value"] for m in figures["models"]] == [pytest.approx(1.9 / 3)] * 2
    assert all(0.3 < m["lc_win_rate"]["value"] < 0.9 for m in figures["models"])
    assert {c["metric"] for c in figures["comparisons"]} == {"win_rate", "lc_win_rate"}
    assert figures["spend"][0]["dollars"] > 0
    assert figures["tasks"]["n"] == 3
    for text in ("LC win rate", "koala", "63.3%", "pretraining data"):
        assert text in " ".join(told.out.split())
    first = twofold(*call[:1], players[0], *call[3:-1], tmp_path / "first", "--limit", 1)
    assert first.code == 0, first.err
    assert json.loads((tmp_path / "first" / "results.json").read_text(encoding="utf-8"))["tasks"]["n"] == 1


def test_shards_give_the_figures_of_the_whole(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    stub.logprobs = probabilities(PROMPTS, lambda text: text.startswith("m"))
    data = written(tmp_path / "data.jsonl", [{"instruction": p, "output": "bbb", "dataset": p} for p in PROMPTS])
    call = ("evaluate", answers(tmp_path / "m.jsonl", "m"), "--task", "alpaca-eval", "--tasks", data, "--judge",
            f"llm-prob:{stub.url}#j", "--out")  # fmt: skip
    assert twofold(*call, tmp_path / "whole").code == 0
    for shard in ("0/2", "1/2"):
        told = twofold(*call, tmp_path / "parts", "--shard", shard)
        assert told.code == 0, told.err
    merged = twofold("data", "merge", tmp_path / "parts")
    assert merged.code == 0, merged.err
    whole, parts = (json.loads((tmp_path / n / "results.json").read_text(encoding="utf-8")) for n in ("whole", "parts"))
    assert [parts["models"], parts["comparisons"]] == [whole["models"], whole["comparisons"]]


def test_wrong_data_give_one_message(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    data = written(tmp_path / "data.jsonl", [{"prompt": "one"}])
    told = twofold("evaluate", "reference", "--task", "alpaca-eval", "--tasks", data, "--judge", f"llm:{stub.url}#j")
    assert (told.code, "data.jsonl:1: lacks the key `instruction`" in " ".join(told.err.split())) == (2, True), told.err
    right = written(tmp_path / "right.jsonl", [{"instruction": "one", "output": "b"}])
    told = twofold("evaluate", "reference", "--task", "alpaca-eval", "--tasks", right)
    assert (told.code, "--task alpaca-eval: requires a judge" in " ".join(told.err.split())) == (2, True), told.err
    told = twofold("evaluate", "reference", "--task", "alpaca-eval", "--tasks", data, "--split", "train")
    assert (told.code, "--split: means nothing to --task alpaca-eval" in " ".join(told.err.split())) == (2, True)
    told = twofold("evaluate", "reference", "--task", "alpaca-eval")
    assert (told.code, "name their file: --tasks FILE" in " ".join(told.err.split())) == (2, True), told.err


def test_mt_bench_of_two_files(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    stub.say = lambda body: f"Score: {9 if 'good' in str(body) else 4}"
    rows = [{"question_id": i, "category": c, "turns": [f"q {i}", f"then {i}"]} for i, c in enumerate(("math", "stem"))]
    data, out = written(tmp_path / "question.jsonl", rows), tmp_path / "out"
    files = [
        written(tmp_path / f"{name}.jsonl", [{"question_id": i, "choices": [{"turns": [name, name]}]} for i in (0, 1)])
        for name in ("good", "bad")
    ]
    call = ("evaluate", *files, "--task", "mt-bench", "--tasks", data, "--judge", f"llm-score:{stub.url}#j", "--out")
    told = twofold(*call, out)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [m["average"]["value"] for m in figures["models"]] == [9, 4]
    assert {"math", "stem"} == set(figures["models"][0]["subsets"])
    assert figures["comparisons"][0]["difference"]["value"] == -5
    for text in ("turn 1", "9.00", "4 of 2 prompts", "scores from 1 to 10", "#b − a"[1:]):
        assert text in " ".join(told.out.split())
    for shard in ("0/2", "1/2"):
        assert twofold(*call, tmp_path / "parts", "--shard", shard).code == 0
    merged = twofold("data", "merge", tmp_path / "parts")
    assert merged.code == 0, merged.err
    assert json.loads((tmp_path / "parts" / "results.json").read_text(encoding="utf-8"))["models"] == figures["models"]
    assert "--judge-pairs" not in told.out
    refused = twofold(*call[:-1], "--samples", 2)
    assert (refused.code, "--samples: means nothing to --task mt-bench" in " ".join(refused.err.split())) == (2, True)


def test_mt_bench_against_a_baseline(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    stub.say = lambda body: f"Verdict: {'A' if 'good' in str(body).split('answer B')[0] else 'B'}"
    rows = [{"question_id": i, "category": c, "turns": [f"q {i}", f"then {i}"]} for i, c in enumerate(("math", "stem"))]
    data, out = written(tmp_path / "question.jsonl", rows), tmp_path / "out"
    good, other, base = (
        written(tmp_path / f"{name}.jsonl", [{"question_id": i, "choices": [{"turns": [name, name]}]} for i in (0, 1)])
        for name in ("good", "other", "base")
    )
    call = ("evaluate", good, other, base, "--task", "mt-bench", "--tasks", data, "--judge", f"llm:{stub.url}#j",
            "--against", base, "--out")  # fmt: skip
    told = twofold(*call, out)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [(m["win_rate"]["value"], m["wins"], m["ties"]) for m in figures["models"]] == [(1, 4, 0), (0.5, 0, 4)]
    shown = " ".join(told.out.split())
    for text in ("win rate", "100.0%", "turn 2", "ties count half", "/base.jsonl", "4 of 2 prompts"):
        assert text in shown
    assert "SE" not in shown.split()
    for shard in ("0/2", "1/2"):
        assert twofold(*call, tmp_path / "parts", "--shard", shard).code == 0
    merged = twofold("data", "merge", tmp_path / "parts")
    assert merged.code == 0, merged.err
    assert json.loads((tmp_path / "parts" / "results.json").read_text(encoding="utf-8"))["models"] == figures["models"]
    refused = twofold("evaluate", good, "--task", "mt-bench", "--tasks", data, "--judge", f"llm-score:{stub.url}#j",
                      "--against", base, "--out", out)  # fmt: skip
    assert (refused.code, "--against: requires one judge that compares" in " ".join(refused.err.split())) == (2, True)


def test_arena_hard_of_two_files(twofold: Run, stub: Stub, tmp_path: Path) -> None:
    stub.say = lambda body: f"[[{'A>>B' if 'good' in str(body).split('answer B')[0] else 'B>A'}]]"
    rows = [{"uid": f"u{i}", "category": c, "prompt": f"q {i}"} for i, c in enumerate(("coding", "writing"))]
    data, out = written(tmp_path / "question.jsonl", rows), tmp_path / "out"
    good, bad, base = (
        written(tmp_path / f"{name}.jsonl", [{"uid": f"u{i}", "messages": [
            {"role": "assistant", "content": {"answer": f"{name} {i}"}}]} for i in (0, 1)])
        for name in ("good", "bad", "base")
    )  # fmt: skip
    call = (
        "evaluate",
        good,
        bad,
        "--task",
        "arena-hard",
        "--tasks",
        data,
        "--judge",
        f"llm:{stub.url}#j",
        "--out",
        out,
    )
    told = twofold(*call, "--against", base)
    assert told.code == 0, told.err
    figures = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [m["score"]["value"] for m in figures["models"]] == [1, 0.5]
    assert figures["models"][0]["strong"] == 2
    for text in ("score", "coding", "100.0%", "a strong verdict counts as three", "/base.jsonl"):
        assert text in " ".join(told.out.split())
    refused = twofold(*call)
    assert (refused.code, "requires the baseline" in " ".join(refused.err.split())) == (2, True), refused.err
    refused = twofold(*call, "--against", base, "--judge-pairs", data)
    assert (refused.code, "--judge-pairs: means nothing to" in " ".join(refused.err.split())) == (2, True), refused.err
