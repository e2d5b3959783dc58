"""What tables hand on: prompts to intervals, lengths to judges, the names of players to mistakes."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.frozen import by_keyword
from support.heard import Heard
from twofold import evaluation
from twofold.errors import DataError, RecipeError
from twofold.evaluation import mt_bench, pass_at_k, reward_scores
from twofold.evaluation.contest import ContestSettings, contest_figures
from twofold.evaluation.likelihood import Likely, perplexity_entry
from twofold.evaluation.mt_bench import MtBenchSettings, measure_mt_bench
from twofold.evaluation.parts import WHOLE, Line
from twofold.evaluation.problems import PromptSettings, each_model
from twofold.evaluation.published_rows import MtQuestion
from twofold.evaluation.reward import Scored, comparisons
from twofold.evaluation.reward_scores import ScoreSettings
from twofold.evaluation.truthfulqa import TruthfulQaSettings, truthful_figures
from twofold.records import Request, Source, Task

PROBLEMS = [Task("four", f"#### {n}", Source("t", n)) for n in (1, 2, 3)]


def test_settings_are_keywords() -> None:
    assert by_keyword(evaluation) == {
        "AccuracySettings", "AlpacaEvalSettings", "ArenaHardSettings", "BenchmarkSettings", "Drawing",
        "FrontierSettings", "IfevalSettings", "JudgeSettings", "MatchSettings", "MathPassAtKSettings", "MathSettings",
        "MtBenchSettings", "PassAtKSettings", "PerplexitySettings", "Player", "PreferenceSettings", "PromptSettings",
        "ScoreSettings", "TruthfulQaSettings", "WinRateInTraining", "WinRateSettings",
    }  # fmt: skip


def test_every_figure_of_a_perplexity_counts_a_prompt_once() -> None:
    """Three rows of two prompts."""
    rows = [Likely(str(n), prompt, {"completion": -1.0 - n}, {"completion": 2}) for n, prompt in enumerate("aab")]
    told = perplexity_entry("m", rows).as_dict()
    figures = {name: (told[name]["n"], told[name]["clusters"]) for name in told if name.startswith("completion")}
    assert figures == {
        f"completion_{name}": (3, 2) for name in ("perplexity", "perplexity_per_completion", "nats_per_completion")
    }


def test_comparisons_follow_the_order_of_completions() -> None:
    """The better level first, then as they came, whatever their scores."""
    found = comparisons(Scored("p", [1, 0, 1, 0], [2.0, 3.0, 1.0, 0.0], [1, 1, 1, 1]))
    assert [c.lead for c in found] == [3.0 - 2.0, 3.0 - 1.0, 0.0 - 2.0, 0.0 - 1.0]


def test_samples_are_drawn_for_as_many_problems_as_fit(simple: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_at_k, "CHUNK", 4)
    for samples, steps in ((2, [2, 1]), (5, [1, 1, 1])):
        heard = Heard()
        pass_at_k.pass_at_k([simple], PROBLEMS, samples=samples, max_new_tokens=2, progress=heard)
        assert [call[1] for call in heard.of("pass@k") if call[0] == "advance"] == steps


def test_a_player_that_is_not_plain_is_not_repeated() -> None:
    for models in (["m@shots:1", "n"], ["m@shots:1"]):
        with pytest.raises(RecipeError) as refused:
            each_model(models, PROBLEMS, PromptSettings(prompted=(2,)), 0.0, lambda *_: None)
        assert refused.value.what == "m@shots:1 is no plain model, which --prompted repeats"
        assert refused.value.where == "--prompted"
        assert refused.value.remedy == "name a model first, or write MODEL@shots:0,4"


def test_a_contest_without_verdicts_names_its_judge_and_what_to_do() -> None:
    row = {"source": ["t", 1], "prompt": "p", "own": "a", "other": "b", "cut": False, "other_cut": False, "share": None}
    line = Line([row], {"judge": {"kind": "human"}, "model": "m", "other": "n", "temperature": None})
    with pytest.raises(DataError) as refused:
        contest_figures({"m against n": line}, ContestSettings(judge="reward:r"))
    assert (refused.value.what, refused.value.where) == ("no match has a verdict", "--judge")
    assert refused.value.remedy == "label some of OUT/comparisons.jsonl first"


def question(number: int, mass: float) -> dict[str, Any]:
    """MC1 right; of MC2 the right answer has this probability."""
    logp = [math.log(mass), math.log(1 - mass)]
    targets = {task: [["a", 1], ["b", 0]] for task in ("mc1", "mc2")}
    return {"name": f"t:{number}", "question": f"q{number}", "choices": ["a", "b"], "logp": logp, **targets}


def test_mc2_is_a_share() -> None:
    """Where all questions differ by one value, the interval of a difference of shares has a width."""
    lines = {name: Line([question(n, mass) for n in range(4)], {}) for name, mass in (("m", 0.75), ("n", 0.875))}
    found = truthful_figures(lines, TruthfulQaSettings()).figures["comparisons"]
    (moved,) = [each["difference"] for each in found if each["metric"] == "mc2"]
    assert moved["value"] == pytest.approx(0.125)
    z2 = 1.959963984540054**2
    width = z2 / (4 + z2)
    assert (moved["low"], moved["high"]) == pytest.approx((0.125 - width * 1.125, 0.125 + width * 0.875))


def test_a_judge_of_conversations_has_the_length_and_rubric_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[Any]()

    class Kind:
        asks_server = False
        gives = "scores"

        def check(self, how: Any) -> None:
            opened.append(how)
            raise LookupError  # nothing further is of interest

    monkeypatch.setattr(mt_bench, "_judge_kind", lambda how: Kind())
    monkeypatch.setattr(mt_bench, "open_reward", lambda folder, **how: (folder, how))
    how = MtBenchSettings(judge="reward:r", max_length=77, rubric="r.md", out=tmp_path)
    asked = [MtQuestion(Request("p", Source("q", 1)), 0, "math", "1", "b")]
    with pytest.raises(LookupError):
        measure_mt_bench(["m"], asked, how, WHOLE)
    assert opened[0].open_reward("r") == ("r", {"max_length": 77})
    assert (opened[0].rubric, opened[0].retry) == ("r.md", how.retry)
    assert opened[0].place.where == "evaluate --task mt-bench --judge"


def test_a_judge_of_rows_has_the_length_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[Any]()
    judge = SimpleNamespace(provenance={}, scores=lambda questions, progress: [[1.0]])
    kind: Any = SimpleNamespace(
        asks_server=True, gives="shares", help=lambda: "h", open=lambda how, resources: opened.append(how) or judge
    )
    monkeypatch.setattr(reward_scores, "open_reward", lambda folder, **how: (folder, how))
    item = reward_scores.Scored("p", ("a",), 1, Source("f", 1), {})
    ledger: Any = nullcontext()
    how = ScoreSettings(max_length=77, rubric="r.md")
    line = reward_scores._by_judge("k", kind, [item], how, WHOLE, ledger)
    assert opened[0].open_reward("r") == ("r", {"max_length": 77})
    assert (opened[0].rubric, opened[0].open_ledger() is ledger) == ("r.md", True)
    assert line.about == {"score": "h", "judge": {}, "compares": True}
