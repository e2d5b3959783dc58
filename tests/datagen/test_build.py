"""Preference data from prompts: what each judge makes of answers, what is left out, what a row tells of its origin."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Body, Stub, said
from twofold.client.server import RetrySettings
from twofold.data.formats import read
from twofold.data.validate import check
from twofold.datagen.build import BuildSettings, Built, build, estimate, read_for
from twofold.datagen.label import Labelling
from twofold.datagen.score import ScoreSettings, score
from twofold.errors import DataError, RecipeError, ServerError
from twofold.judges.questions import read_questions
from twofold.progress import Silent
from twofold.records import Labelled, Pair, Ranking

QUICK = RetrySettings(timeout=5, attempts=4, pause=0.01)


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(source: Path, out: Path, open_reward: Callable[[str], Any] = pytest.fail, **how: Any) -> Built:
    settings = BuildSettings(**{"retry": QUICK, **how})
    return build(read_for(settings, str(source)), settings, out, open_reward, Silent())


def model_and_judge(body: Body) -> str:
    """As `policy` it answers n + 1 or n + 2 by the seed; as `strong` it is right; as `judge` it likes the larger."""
    if body["model"] == "judge":
        answers = re.findall(r'part="answer[^"]*">\n(.*?)\n</text-', said(body), re.DOTALL)
        numbers = [int(a.rpartition("#### ")[2]) for a in answers]
        if len(numbers) == 1:
            return f"Score: {min(10, max(1, numbers[0]))}"
        return "Verdict: tie" if numbers[0] == numbers[1] else f"Verdict: {'A' if numbers[0] > numbers[1] else 'B'}"
    number = int(said(body).split()[0])
    return f"#### {number + 1 + (body['seed'] // 64 % 2 if body['model'] == 'policy' else 0)}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(model_and_judge)
    yield server
    server.close()


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return lines(tmp_path / "tasks.jsonl", *({"question": f"{n} + 1 = ", "answer": f"#### {n + 1}"} for n in range(6)))


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    told = [
        {"prompt": f"{n}", "answers": ["#### 3", "#### 5", "#### 4", "#### 5"], "answer": "#### 5"} for n in range(3)
    ]
    return lines(tmp_path / "answers.jsonl", *told)


def test_a_verifier_prefers_right_answers(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    built = run(tasks, out, models=(f"{stub.url}#policy",), judge="verifier", samples=8)
    assert (built.rows, built.used, built.missing) == (6, 6, 0)
    assert len(stub.requests) == 48
    for n, record in enumerate(read(str(out)).records):
        assert isinstance(record, Pair)
        assert (record.chosen, record.rejected) == (f"#### {n + 1}", f"#### {n + 2}")
    told = rows(out)[0]["provenance"]
    assert told["judge"] == {"kind": "verifier", "metric": "strict"}
    assert told["scores"] == [1.0, 0.0]
    assert told["source"] == f"{tasks}:1"
    assert told["chosen"]["model"] == "policy"
    assert {told["chosen"]["sample"], told["rejected"]["sample"]} <= set(range(8))
    assert check(str(out)).faults == ()


def test_ground_truth_over_own_samples(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    model = (f"{stub.url}#policy",)
    run(tasks, tmp_path / "all.jsonl", models=model, judge="truth", samples=8, all_pairs=True)
    run(tasks, tmp_path / "wrong.jsonl", models=model, judge="truth", samples=8, only_wrong=True)
    # The right sample is the ground truth, word for word: no pair would tell them apart.
    for name in ("all.jsonl", "wrong.jsonl"):
        assert [(r["chosen"], r["rejected"]) for r in rows(tmp_path / name)] == [
            (f"#### {n + 1}", f"#### {n + 2}") for n in range(6)
        ]


def test_a_stronger_model_s_answer_over_the_policy_s_own(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(tasks, out, models=(f"{stub.url}#policy",), judge=f"stronger:{stub.url}#strong", samples=8, only_wrong=True)
    assert [(r["chosen"], r["rejected"]) for r in rows(out)] == [(f"#### {n + 1}", f"#### {n + 2}") for n in range(6)]
    told = rows(out)[0]["provenance"]
    assert (told["chosen"]["model"], told["rejected"]["model"]) == ("strong", "policy")


def test_a_judge_of_two_ranks_by_matches_won(stub: Stub, answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    built = run(answers, out, judge=f"llm:{stub.url}#judge", form="rankings")
    assert built.rows == 3
    assert len(stub.requests) == 3 * 3 * 2  # three different answers, both orders
    assert [(r.completions, r.scores) for r in read(str(out)).records if isinstance(r, Ranking)] == [
        (("#### 5", "#### 4", "#### 3"), (1.0, 0.5, 0.0))
    ] * 3
    assert rows(out)[0]["provenance"]["scores"] == [1.0, 0.5, 0.0]
    assert [c["place"] for c in rows(out)[0]["provenance"]["completions"]] == [1, 2, 0]
    assert check(str(out)).ok


def test_a_judge_s_scores_as_labels(stub: Stub, answers: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(answers, out, judge=f"llm-score:{stub.url}#judge", form="labels", threshold=4.5)
    assert [(r.completion, r.desirable) for r in read(str(out)).records if isinstance(r, Labelled)] == [
        ("#### 3", False), ("#### 5", True), ("#### 4", False),
    ] * 3  # fmt: skip


def test_a_reward_model_s_scores_and_a_gap(answers: Path, tmp_path: Path) -> None:
    class Scorer:
        def score(self, records: list[Ranking], progress: Silent) -> list[list[float]]:
            return [[float(text[-1]) for text in record.completions] for record in records]

    out = tmp_path / "out.jsonl"
    run(answers, out, lambda folder: Scorer(), judge="reward:there", all_pairs=True, gap=1.5)
    assert [(r["chosen"], r["rejected"]) for r in rows(out)] == [("#### 5", "#### 3")] * 3
    assert rows(out)[0]["provenance"]["judge"] == {"kind": "reward", "model": "there"}


def test_what_people_will_judge_is_not_taken_for_a_ranking(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert run(tasks, out, models=(f"{stub.url}#policy",), judge="human", samples=8).rows == 6
    assert set(rows(out)[0]["answers"]) == {"#### 1", "#### 2"}
    assert not check(str(out)).ok


@pytest.mark.parametrize("form", ["pairs", "rankings", "labels"])
def test_rows_keep_the_ground_truth_so_that_a_verifier_can_score_them(answers: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out.jsonl"
    run(answers, out, form=form)
    assert {row["answer"] for row in rows(out)} == {"#### 5"}
    scored = score(str(out), ScoreSettings(judge="verifier"), tmp_path / "scored.jsonl", pytest.fail, Silent())
    assert [scores for _, scores in scored.known()] == {
        "pairs": [[1.0, 0.0]] * 3, "rankings": [[1.0, 0.0]] * 3, "labels": [[0.0], [1.0], [0.0]] * 3
    }[form]  # fmt: skip


def test_people_s_verdicts_keep_the_ground_truth_too(answers: Path, tmp_path: Path) -> None:
    run(answers, tmp_path / "open.jsonl", judge="human")
    assert {row["answer"] for row in rows(tmp_path / "open.jsonl")} == {"#### 5"}
    with Labelling.open(read_questions(str(tmp_path / "open.jsonl")).questions, tmp_path / "pairs.jsonl") as labelling:
        labelling.give(labelling.state()["row"]["key"], "left", 1.0)
        assert labelling.write() == 1
    assert rows(tmp_path / "pairs.jsonl")[0]["answer"] == "#### 5"


def test_cut_and_empty_answers_are_left_out_and_counted(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    stub.behave = lambda body, nth: "cut" if said(body).startswith("1") else "good"
    stub.say = lambda body: "" if said(body).startswith("2") else model_and_judge(body)
    built = run(tasks, tmp_path / "out.jsonl", models=(f"{stub.url}#policy",), samples=8)
    assert (built.rows, built.left_out["prompts with nothing to compare"]) == (4, 2)
    assert built.left_out["empty or truncated answers"] == 3  # two texts of prompt 1, the one empty text of prompt 2
    kept = run(tasks, tmp_path / "kept.jsonl", models=(f"{stub.url}#policy",), samples=8, keep_truncated=True)
    assert kept.rows == 5


def test_a_prompt_that_lacks_a_verdict_is_left_for_the_next_run(stub: Stub, answers: Path, tmp_path: Path) -> None:
    out, judge = tmp_path / "out.jsonl", f"llm:{stub.url}#judge"
    stub.say = lambda body: "no idea" if 'part="request">\n1\n' in said(body) else model_and_judge(body)
    with pytest.raises(ServerError, match="1 of 3 prompts lack an answer or a verdict; 2 rows were written"):
        run(answers, out, judge=judge)
    assert len(rows(out)) == 2
    before = len(stub.requests)
    stub.say = model_and_judge
    assert run(answers, out, judge=judge).rows == 3
    assert len(stub.requests) - before == 6


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"judge": "verifer"}, "no judge is called 'verifer'"),
        ({"judge": "verifier:strong"}, "a verifier's rule is one of"),
        ({"judge": "llm"}, "the judge is written llm:URL#MODEL"),
        ({"judge": "reward:x", "form": "labels"}, "labels by reward need a threshold"),
        ({"form": "labels", "threshold": float("nan")}, "threshold must be a finite number"),
        ({"gap": float("inf")}, "gap must be ≥ 0 and finite"),
        ({"judge": "truth"}, "need a model's own answers"),
        ({"judge": "human", "only_wrong": True}, "only_wrong goes with"),
        ({"judge": "human", "rubric": "x"}, "a rubric goes with"),
    ],
)
def test_settings_that_cannot_be_meant(how: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        BuildSettings(**how)


def test_mistakes_are_told_before_anything_is_asked(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    model = (f"{stub.url}#policy",)
    mine = lines(tmp_path / "mine.jsonl", {"precious": True})
    with pytest.raises(DataError, match="exists and was not built here"):
        run(tasks, mine, models=model)
    bare = lines(tmp_path / "bare.jsonl", {"prompt": "a"})
    with pytest.raises(DataError, match=r"bare\.jsonl:1: has no answer to compare with"):
        run(bare, tmp_path / "out.jsonl", models=model)
    with pytest.raises(DataError, match="prompts without answers to judge"):
        run(bare, tmp_path / "out.jsonl", judge=f"llm:{stub.url}#judge")
    with pytest.raises(DataError, match=r"odd\.jsonl:2, `answers`: is no list of texts"):
        run(lines(tmp_path / "odd.jsonl", {"prompt": "a", "answers": ["b", "c"]}, {"prompt": "a", "answers": "b"}),
            tmp_path / "out.jsonl", judge="human")  # fmt: skip
    with pytest.raises(RecipeError, match="is also the model"):
        run(tasks, tmp_path / "out.jsonl", models=model, judge=f"stronger:{model[0]}")
    assert stub.requests == []
    assert not (tmp_path / "out.jsonl").exists()


def test_the_estimate_is_what_is_asked_at_most(stub: Stub, tasks: Path, tmp_path: Path) -> None:
    how = BuildSettings(models=(f"{stub.url}#policy",), judge=f"llm:{stub.url}#judge", samples=3, retry=QUICK)
    questions = read_for(how, str(tasks))
    cost = estimate(questions, how)
    assert (cost.questions, cost.drawn, cost.requests, cost.verdicts) == (6, 0, 18, 36)
    build(questions, how, tmp_path / "out.jsonl", (pytest.fail, pytest.fail), Silent())
    asked = Counter(body["model"] for body in stub.requests)
    assert asked["policy"] == 18
    assert asked["judge"] <= 36
