"""`twofold evaluate --task win-rate`: judges that favour a place or length, people, a constant answer, a broken run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.openai_stub import Body, Stub, said
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy
from twofold.reports.run import read_run
from twofold.statistics import wilson

Run = Callable[..., Any]
Evaluate = Callable[..., dict[str, Any]]
PROMPTS = 10


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def parts(body: Body) -> list[str]:
    """The answers as the package's rubric shows them."""
    return re.findall(r'part="answer[^"]*">\n(.*?)\n</text-', said(body), re.DOTALL)


def longer(body: Body) -> str:
    first, second = (len(text) for text in parts(body))
    return f"Verdict: {'A' if first > second else 'B' if first < second else 'tie'}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(longer)
    yield server
    server.close()


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Reference answers of 1 to 10 characters that no model of bytes says."""
    rows = ({"prompt": f"say {n}: ", "chosen": "chosen text"[: 1 + n], "rejected": "no"} for n in range(PROMPTS))
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def evaluated(twofold: Run, tmp_path: Path, tasks: Path) -> Evaluate:
    def evaluate(*words: object, out: str = "out", rows: Path = tasks) -> dict[str, Any]:
        how = ("--task", "win-rate", "--max-new-tokens", 5, "--out", tmp_path / out)
        answer = twofold("evaluate", *words, "--tasks", rows, *how)
        assert answer.code == 0, answer.err
        told = json.loads((tmp_path / out / "results.json").read_text(encoding="utf-8"))
        return {**told, "err": " ".join(answer.err.split()), "shown": answer.out}

    return evaluate


@pytest.fixture
def other(model_folder: Path, tmp_path: Path) -> Path:
    """The model with disturbed weights."""
    shutil.copytree(model_folder, folder := tmp_path / "other")
    noise = torch.Generator().manual_seed(0)
    weights = load_file(folder / "model.safetensors")
    moved = {k: v + torch.randn(v.shape, generator=noise).to(v.dtype) * v.std() for k, v in weights.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_judge_that_favours_a_place_prefers_nothing(stub: Stub, model_folder: Path, evaluated: Evaluate) -> None:
    stub.say = lambda body: "Verdict: A"
    told = evaluated(model_folder, "--judge", f"llm:{stub.url}#j", "--temperatures", "0,1")
    assert [r["temperature"] for r in told["win_rates"]] == [0, 1]
    for rate in (*told["win_rates"], told["canary"]):
        assert (rate["value"], rate["ties"], rate["n"]) == (0.5, PROMPTS, PROMPTS)
        assert rate["orders"] == {**wilson(0, PROMPTS).as_dict(), "first": PROMPTS, "second": 0}
    assert "an answer without content" in told["err"]
    assert "orders agree" in told["shown"]
    against = evaluated(model_folder, "--judge", f"llm:{stub.url}#j", "--temperatures", "1", "--against", model_folder)
    assert against["canary"]["value"] == 0.5
    assert "an answer without content" not in against["err"]  # the model may have deserved the ties
    own = evaluated(model_folder, "--judge", f"llm:{stub.url}#j", "--temperatures", "1", "--canary", "mine")
    assert own["canary"]["text"] == "mine"


def test_every_item_is_told_and_nothing_is_asked_twice(
    stub: Stub, model_folder: Path, evaluated: Evaluate, tmp_path: Path
) -> None:
    how = (model_folder, "--judge", f"llm:{stub.url}#j", "--temperatures", "1", "--samples", 2)
    told, asked = evaluated(*how), len(stub.requests)
    rows = lines(tmp_path / "out" / "rows.jsonl")
    assert len(rows) == 2 * PROMPTS
    for row in rows:
        a, b = len(row["completion"]), len(row["other"])
        assert row["share"] == 0.5 + 0.5 * ((a > b) - (a < b))
    (rate,) = told["win_rates"]
    assert rate["value"] == pytest.approx(sum(row["share"] for row in rows) / len(rows))
    assert (rate["n"], rate["missing"]) == (2 * PROMPTS, 0)
    assert rate["orders"]["value"] == 1.0
    controlled = rate["length_controlled"]
    assert controlled["low"] < 0.5 < controlled["high"]  # the judge sees nothing but length
    assert abs(controlled["value"] - 0.5) < abs(rate["value"] - 0.5) / 2
    assert told["canary"]["value"] == 1.0
    assert told["canary"]["n"] == PROMPTS
    again = evaluated(*how)
    assert len(stub.requests) == asked
    assert again["win_rates"] == told["win_rates"]
    evaluated(*how, "--canary", "")
    assert "canary" not in json.loads((tmp_path / "out" / "results.json").read_text())


def test_a_broken_run_goes_on(stub: Stub, model_folder: Path, twofold: Run, tasks: Path, tmp_path: Path) -> None:
    stub.behave = lambda body, nth: "401" if len(stub.requests) > 5 else "good"
    words = ("evaluate", model_folder, "--task", "win-rate", "--tasks", tasks, "--judge", f"llm:{stub.url}#j",
             "--temperatures", "0", "--max-new-tokens", 5, "--canary", "", "--out", tmp_path / "out")  # fmt: skip
    broken = twofold(*words)
    assert (broken.code, "HTTP 401" in broken.err) == (4, True)
    kept = len(stub.good)
    assert kept > 0
    stub.behave = lambda body, nth: "good"
    assert twofold(*words).code == 0
    assert len(stub.good) == 2 * PROMPTS
    assert len(set(stub.good)) == 2 * PROMPTS


def test_models_are_tested_at_each_temperature_and_against_another(
    stub: Stub, model_folder: Path, other: Path, evaluated: Evaluate, tmp_path: Path
) -> None:
    how = ("--judge", f"llm:{stub.url}#j", "--temperatures", "0.5,1")
    told = evaluated(model_folder, other, *how)
    assert [c["metric"] for c in told["comparisons"]] == ["temperature 0.5", "temperature 1"]
    assert all(c["n"] == PROMPTS and "p_holm" in c for c in told["comparisons"])
    means = {(r["model"], r["temperature"]): r["value"] for r in told["win_rates"]}
    for heat, test in zip((0.5, 1.0), told["comparisons"], strict=True):
        gap = means[str(other), heat] - means[str(model_folder), heat]
        assert test["difference"]["value"] == pytest.approx(gap)
    itself = evaluated(model_folder, *how, "--against", model_folder, out="itself")
    assert [r["ties"] for r in itself["win_rates"]] == [PROMPTS, PROMPTS]
    against = evaluated(other, *how, "--against", model_folder, "--seed", 3, out="against")
    answers = {(r["name"], r["temperature"]): r["other"] for r in lines(tmp_path / "against" / "rows.jsonl")}
    own = evaluated(model_folder, *how, "--seed", 3, out="own")
    assert own["seed"] == 3
    assert answers == {(r["name"], r["temperature"]): r["completion"] for r in lines(tmp_path / "own" / "rows.jsonl")}
    assert against["against"].endswith(model_folder.name)


def test_people_judge_and_are_compared_with_a_judge(
    stub: Stub, model_folder: Path, evaluated: Evaluate, twofold: Run, tmp_path: Path, tasks: Path
) -> None:
    """People like the shorter answer on the first six comparisons: the opposite of the judge wherever nobody ties."""
    from twofold.datagen.label import Labelling
    from twofold.judges.questions import read_questions

    how = (model_folder, "--temperatures", "1")
    human = f"human:{tmp_path / 'labels.jsonl'}"
    none = twofold(
        "evaluate", *how, "--task", "win-rate", "--tasks", tasks, "--judge", human, "--max-new-tokens", 5,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert none.code == 2
    assert "twofold data label" in " ".join(none.err.split())
    questions = read_questions(str(tmp_path / "out" / "comparisons.jsonl")).questions
    with Labelling.open(questions, tmp_path / "labels.jsonl") as labelling:
        for _ in range(6):
            row = labelling.state()["row"]
            left, right = (sum(len(text) for text, *_ in row[side]) for side in ("left", "right"))
            side = "left" if left < right else "right" if right < left else "tie"
            assert labelling.give(row["key"], side, 1.0) is not None
    told = evaluated(*how, "--judge", human)
    rows = [row for row in lines(tmp_path / "out" / "rows.jsonl") if row["share"] is not None]
    assert told["win_rates"][0]["n"] == len(rows) == 6
    assert told["win_rates"][0]["missing"] == PROMPTS - 6
    for row in rows:
        a, b = len(row["completion"]), len(row["other"])
        assert row["share"] == 0.5 + 0.5 * ((a < b) - (a > b))
    assert "canary" not in told
    judged = evaluated(*how, "--judge", f"llm:{stub.url}#j", "--people", tmp_path / "labels.jsonl")
    ties = sum(row["share"] == 0.5 for row in rows)
    assert judged["people"]["same"] == wilson(ties, 6).as_dict()
    assert judged["people"]["kappa"]["value"] <= 0
    assert "judge and people: κ" in judged["shown"]


def test_a_reward_model_judges_by_its_scores_and_a_run_keeps_its_rates(
    model_folder: Path, twofold: Run, tasks: Path, tmp_path: Path, evaluated: Evaluate
) -> None:
    held, loaded = load_reward_model(ModelSettings(path=str(model_folder), precision="float32"))
    save_policy(held, loaded.tokenizer, tmp_path / "rm")
    run = tmp_path / "run"
    shutil.copytree(model_folder, run / "model")
    (run / "resolved.yaml").write_text("seed: 0\n", encoding="utf-8")
    told = evaluated(run, "--judge", f"reward:{tmp_path / 'rm'}", "--temperatures", "0,1")
    rows = [row for row in lines(tmp_path / "out" / "rows.jsonl") if row["temperature"] == 0]
    pairs = tmp_path / "said.jsonl"
    pairs.write_text(
        "".join(json.dumps({"prompt": r["prompt"], "chosen": r["completion"], "rejected": r["other"]}) + "\n"
                for r in rows)
    )  # fmt: skip
    assert twofold("score", pairs, "--judge", f"reward:{tmp_path / 'rm'}", "--out", tmp_path / "scored.jsonl").code == 0
    scored = lines(tmp_path / "scored.jsonl")
    assert [r["share"] for r in rows] == [float(s["chosen_score"] > s["rejected_score"]) for s in scored]
    kept = read_run(run).extra["win_rates"]
    assert [(r["temperature"], r["value"], r["n"]) for r in kept] == [
        (r["temperature"], r["value"], r["n"]) for r in told["win_rates"]
    ]
    assert kept[0]["against"] == f"the answers of {tmp_path.name}/pairs.jsonl, judged by reward:{tmp_path.name}/rm"
    evaluated(run, "--judge", f"reward:{tmp_path / 'rm'}", "--temperatures", "0.5", out="next")
    assert [r["temperature"] for r in read_run(run).extra["win_rates"]] == [0.5]
    evaluated(run, "--judge", f"reward:{tmp_path / 'rm'}", "--temperatures", "0", "--against", model_folder, out="more")
    assert [r["temperature"] for r in read_run(run).extra["win_rates"]] == [0.5, 0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--judge reward:FOLDER"),
        (("--judge", "nonsense"), "no judge is called 'nonsense'"),
        (("--judge", "llm:http://127.0.0.1:1/v1#j"), "add --out FOLDER"),
        (("--judge", "human:none.jsonl", "--temperatures", "warm"), "no list of numbers"),
        (("--judge", "human:none.jsonl", "--people", "none.jsonl"), "no verdicts"),
        (("--judge", "reward:none", "--rubric", "r.jinja"), "a rubric goes with llm"),
        (("--judge", "reward:none", "--metrics", "strict"), "means nothing to --task win-rate"),
    ],
)
def test_mistakes_are_short(twofold: Run, model_folder: Path, tasks: Path, words: tuple[str, ...], told: str) -> None:
    answer = twofold("evaluate", model_folder, "--task", "win-rate", "--tasks", tasks, *words)
    assert answer.code == 2
    assert told in " ".join(answer.err.split())
    assert "Traceback" not in answer.err


def test_a_prompt_alone_needs_an_opponent(twofold: Run, model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    words = ("evaluate", model_folder, "--task", "win-rate", "--tasks", path, "--judge", "human:x.jsonl")
    answer = twofold(*words)
    assert answer.code == 2
    assert "--against MODEL" in answer.err
