"""What a table says where it cannot be made: each reason, where, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from twofold.errors import DataError, ModelError, RecipeError
from twofold.evaluation import arena_hard, harness, mt_bench, mt_bench_pairs, pass_at_k, style_control, truthfulqa
from twofold.evaluation.arena_hard import ArenaHardSettings, measure_arena_hard
from twofold.evaluation.judging import JudgeSettings, measure_judges
from twofold.evaluation.mt_bench import MtBenchSettings
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.pass_at_k import PassAtKSettings
from twofold.evaluation.players import Player, parse_player, refuse_players
from twofold.evaluation.rows import rows_of
from twofold.records import Candidate, Demonstration, Pair, Source, Task

FORMS = "settings are best-of:N?reward=REWARD, beam:N[?guide=REWARD], shots:N, temperature:T"
GUIDES = "a guide is reward:FOLDER or process:FOLDER"


def refused(call: Any, *given: Any, **how: Any) -> tuple[str, str, str]:
    with pytest.raises((RecipeError, DataError, ModelError)) as error:
        call(*given, **how)
    return error.value.what, error.value.where, error.value.remedy


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("@shots:1", "no model before the settings", "write MODEL@temperature:0.7"),
        ("m@shots:1@shots:2", "has shots twice", "give it once; several values are shots:1,2"),
        ("m@shots:1?guide=x", "`?guide=x` means nothing to shots", FORMS),
        ("m@temperature:1?reward=x", "`?reward=x` means nothing to temperature", FORMS),
        ("m@heat:1", "no setting is called 'heat'", FORMS),
        ("m@shots", "shots has no value", FORMS),
        ("m@shots:x", "'x' is not a whole number for shots", FORMS),
        ("m@best-of:1?reward=verifier", "best-of must be ≥ 2", FORMS),
        ("m@beam:0", "beam must be ≥ 1", FORMS),
        ("m@shots:-1", "shots must be ≥ 0", FORMS),
        ("m@temperature:inf", "temperature must be ≥ 0", FORMS),
        ("m@best-of:4", "best-of has no reward",
         "write best-of:16?reward=reward:FOLDER, or verifier:flexible, llm-score:URL#NAME"),
        ("m@best-of:4?reward=", "`?reward=` is not reward=REWARD",
         "write best-of:16?reward=reward:FOLDER, or verifier:flexible, llm-score:URL#NAME"),
        ("m@best-of:4?reward=llm:http://h/v1#j", None, "a reward is a judge that scores: docs/judges.md"),
        ("m@beam:5?reward=verifier", "`?reward=verifier` is not guide=REWARD",
         "write beam:5?guide=reward:FOLDER or process:FOLDER"),
        ("m@beam:5?guide=", "`?guide=` is not guide=REWARD", "write beam:5?guide=reward:FOLDER or process:FOLDER"),
        ("m@beam:5?guide=nobody", None, GUIDES), ("m@beam:5?guide=verifier", "verifier cannot guide a search", GUIDES),
        ("reference@shots:1", "the rows' own answers have no settings", "write only reference"),
        ("a.jsonl@shots:1", "a file of answers has no settings", "write only a.jsonl"),
        ("http://h/v1#m@beam:2", "a server has no beam search", "leave beam out, or name a local model"),
        ("m@beam:2@temperature:1", "beam search does not sample",
         "leave temperature and best-of out, or leave beam out"),
        ("m@beam:2@best-of:2?reward=verifier", "beam search does not sample",
         "leave temperature and best-of out, or leave beam out"),
        ("m@best-of:2?reward=verifier@temperature:0", "at temperature 0 all samples are the same",
         "choose a temperature above 0 for best-of"),
        ("m@0.7", "`@0.7` is no setting, and no such folder", FORMS),
        ("m@shots:1,2", "is 2 players", "write one value for each setting here"),
    ],
)  # fmt: skip
def test_a_wrong_player_learns_what_is_possible(text: str, what: str | None, remedy: str) -> None:
    found = refused(parse_player, text)
    assert found[1:] == (f"player {text}", remedy)
    assert what in (None, found[0])


def test_a_player_with_settings_has_no_probabilities() -> None:
    remedy = "name a folder, a run directory or a hub name, without settings"
    what = "m@shots:1 is no plain model, and its log-probabilities are required"
    assert refused(refuse_players, [Player(model="m"), Player(model="m", shots=1)], "--task x") == (
        what,
        "--task x",
        remedy,
    )


NEEDED = [
    ("answers", "problems with answers", "rows need a prompt and an answer; for pairs choose --task preference"),
    ("math", "problems with answers", "rows need problem, and solution or answer; for pairs choose --task preference"),
    ("truthfulqa", "TruthfulQA's questions",
     "rows need question, mc1_targets and mc2_targets; for pairs choose --task preference"),
    ("ifeval", "prompts with instructions to check",
     "rows need prompt, instruction_id_list and kwargs, as IFEval's, or instructions as JSON in `answer`; for pairs "
     "choose --task preference"),
    ("rewardbench2", "RewardBench 2's rows",
     "rows need prompt, id, subset, and lists of chosen and of rejected completions; for pairs choose --task "
     "preference"),
]  # fmt: skip
OTHERS = [
    ("rewardbench", "RewardBench's pairs", "rows need prompt, chosen, rejected and subset"),
    ("preference", "pairs", "rows need chosen and rejected"),
    ("judge", "labeled pairs", "rows need chosen and rejected"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "what", "remedy"), [*NEEDED, *OTHERS])
def test_rows_of_another_kind_are_refused_by_their_task(task: Any, what: str, remedy: str) -> None:
    pairs = (task, what, remedy) in NEEDED
    row = Pair("p", "a", "b", Source("f", 1)) if pairs else Demonstration("p", "a", Source("f", 1))
    assert refused(rows_of, [row], task) == (f"--task {task} requires {what}", "f", remedy)
    assert refused(rows_of, [], task) == ("no rows", task, "name a file with rows")


def test_several_kinds_of_rows_are_of_no_task() -> None:
    both = [Pair("p", "a", "b", Source("f", 1)), Demonstration("p", "a", Source("f", 2))]
    assert rows_of(both[:1], "perplexity") == both[:1]
    assert rows_of(both[1:], "perplexity") == both[1:]
    assert refused(rows_of, both, "perplexity")[2] == "rows need chosen and rejected, or prompt and completion"
    assert refused(rows_of, both, "win-rate")[0] == "--task win-rate requires rows of one shape with prompts"


def test_arena_hard_needs_a_baseline_and_one_judge_that_grades() -> None:
    where = "--task arena-hard"
    baseline = "add --against PLAYER, such as model_answer/gpt-4-0314.jsonl of arena-hard-v0.1"
    for against in (None, "reference"):
        how = ArenaHardSettings(judge="llm:http://h/v1#j", against=against)
        assert refused(measure_arena_hard, [], [], how, WHOLE) == ("requires the baseline", where, baseline)
    for judge in ("reward:r", ["llm:http://h/v1#j", "llm:http://h/v1#k"]):
        how = ArenaHardSettings(judge=judge, against="m")
        want = ("requires one judge that grades two answers", where, "write --judge llm:URL#NAME")
        assert refused(measure_arena_hard, [], [], how, WHOLE) == want


def test_a_missing_style_is_of_a_player_or_of_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena_hard, "TokenCounter", lambda: SimpleNamespace(lacks="tiktoken lacks"))
    known = {"style": [1], "other_style": [1]}
    lines = {"m": Line([known]), "n": Line([known, {**known, "style": None}])}
    text = "the tokens of answers of {} are not in `metadata` of a file, and tiktoken lacks"
    assert arena_hard._why_not(lines) == text.format("n")
    assert arena_hard._why_not({"m": Line([{**known, "other_style": None}])}) == text.format("the baseline")
    assert arena_hard._why_not({"m": Line([known])}) == (
        "a style separates all wins from losses, so the fit has no finite optimum"
    )


def test_mt_bench_needs_one_judge_that_scores() -> None:
    where = "--task mt-bench"
    several = MtBenchSettings(judge=["reward:r", "reward:s"])
    want = ("requires one judge: scores of a panel have no majority", where, "write --judge llm-score:URL#NAME")
    assert refused(mt_bench._judge_kind, several) == want
    with_rubric = MtBenchSettings(judge="reward:r", rubric="r.md")
    want = ("a rubric goes with llm-score", "judge reward:r", "leave --rubric out")
    assert refused(mt_bench._judge_kind, with_rubric) == want
    assert mt_bench._judge_kind(MtBenchSettings(judge="llm-score:http://h/v1#j", rubric="r.md")).asks_server
    for judge in ("reward:r", "llm-score:http://h/v1#j"):
        want = (
            "requires one judge that compares two answers",
            "--task mt-bench --against",
            "write --judge llm:URL#NAME",
        )
        assert refused(mt_bench_pairs.check_pair_judge, MtBenchSettings(judge=judge)) == want


def test_a_player_without_a_score_is_refused() -> None:
    row = {"scores": [None, None], "index": 0, "subset": "math", "truncated": [False, True]}
    want = ("has no score", "m", "see the judge's replies in ledger.jsonl, or its rubric")
    assert refused(mt_bench._entry, "m", Line([row])) == want
    made = mt_bench._entry("m", Line([row, {**row, "scores": [3.0, None], "index": 1}], {"sampling": {"a": 1}}))
    assert list(made.measures) == ["turn_1", "average"]
    assert (made.counts, made.about["sampling"]) == ({"missing": 3, "truncated": 2}, {"a": 1})
    assert made.about["subsets"]["math"]["average"]["value"] == 3.0


def test_people_are_not_measured_as_judges() -> None:
    want = ("people are not measured", "--task judge", "name models: llm:, reward: …")
    assert refused(measure_judges, ["human:f"], [], JudgeSettings(), WHOLE) == want


def test_a_player_answers_often_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has as many answers to a prompt as it has rows of it."""
    book: Any = SimpleNamespace(of=lambda player: [[Candidate("1", {})] * 3, [Candidate("1", {}, True)] * 2],
                                weights=lambda player: "w")  # fmt: skip
    monkeypatch.setattr(pass_at_k, "each_model", lambda *_: {})
    monkeypatch.setattr(pass_at_k, "each_other", lambda m, t, how, drawn, written, part: {
        "a.jsonl": written("a.jsonl", Player(model="a.jsonl"), book), "drawn": drawn})  # fmt: skip
    monkeypatch.setattr(pass_at_k, "in_order", lambda models, lines: lines)
    tasks = [Task(prompt, "#### 1", Source("t", n)) for n, prompt in enumerate("pq", 1)]

    def measured(k: int) -> Any:
        how = PassAtKSettings(ks=(k,), temperature=0.5)
        return pass_at_k.measure_samples(["a.jsonl"], tasks, how, WHOLE)

    want = ("a.jsonl has fewer than 3 answers to a prompt", "--pass-at", "leave it out, or ask for a smaller k")
    assert refused(measured, 3) == want
    found = measured(2)
    assert (found["a.jsonl"].weights, found["drawn"]) == ("w", (0.5, 2))
    assert [row["truncated"] for row in found["a.jsonl"].rows] == [0, 2]


def test_an_adapter_of_a_quantized_base_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.Quantization, "recorded", lambda path: object() if path == "a" else None)
    asked = harness.HarnessRequest(("t",), dtype="float32")
    remedy = "make a whole model of it with `twofold export`, and name that"
    assert refused(asked.model_arguments, "b", "a") == ("is an adapter of a quantized base", "a", remedy)
    assert asked.model_arguments("b", "c") == {"pretrained": "b", "peft": "c", "dtype": "float32"}


def test_answers_of_truthfulqa_have_tokens_and_are_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token for each word."""
    monkeypatch.setattr(truthfulqa, "_encoded", lambda model, text: list(range(len(text.split()))))
    task = Task("q", "{}", Source("t", 3))
    model: Any = SimpleNamespace(policy=SimpleNamespace(logps=lambda groups, packing: pytest.fail("not reached")))

    def logps(most: int, *choices: str) -> Any:
        return truthfulqa._logps(model, ["a b"], [choices], [task], most)

    want = ("has 4 tokens, at most 3 are read", "t:3", "raise --max-length, or remove the row")
    assert refused(logps, 3, "c", "c d") == want
    want = ("the answer ' ' has no tokens", "t:3", "remove the answer from the row")
    assert refused(logps, 4, "c d", " ") == want
    remedy = "rows need question, mc1_targets and mc2_targets, as TruthfulQA's"
    assert refused(truthfulqa.targets_of, task) == ("the row has no answers of TruthfulQA", "t:3", remedy)


def test_an_interval_is_of_the_resamples_with_a_finite_fit() -> None:
    """If fewer than half have one it is as wide as can be."""
    draws, left_out = np.array([0.1, 0.2, 0.3, np.nan]), np.array([0.1, 0.2, 0.3])
    low, high, how = style_control._bounds(0.2, draws, left_out)
    assert 0.1 <= low < 0.2 < high <= 0.3
    assert how.endswith(", 3 of 4 resamples")
    assert not style_control._bounds(0.2, draws[:3], left_out)[2].endswith("resamples")
    few = np.array([0.1, np.nan, np.inf, np.nan])
    text = "only 1 of 4 resamples have a finite fit"
    assert style_control._bounds(0.2, few, left_out) == (0.0, 1.0, text)
    assert style_control._bounds(0.2, few, left_out, least=-1.0) == (-1.0, 1.0, text)
    half = style_control._bounds(0.2, np.array([0.1, 0.3, np.nan, np.nan]), left_out)
    assert half[2].endswith(", 2 of 4 resamples")
