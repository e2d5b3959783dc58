"""What a win rate in training draws, hands to its judge and leaves in samples.jsonl."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.data.reasoning import Parted
from twofold.errors import DataError, RecipeError
from twofold.evaluation import rate_in_training as module
from twofold.evaluation.games import Game, Shares
from twofold.evaluation.rate_in_training import RateInTraining, WinRateInTraining
from twofold.judges.base import MatchResult
from twofold.judges.matchups import Matchup
from twofold.records import Message, Record, Request, Source, Task

CHAT = (Message("system", "be brief"), Message("user", "q"))
RECORDS: list[Record] = [Task("p", "#### 4", Source("f", 1)), Request(CHAT, Source("f", 2))]


class Codec:
    """Each completion reasons about itself, but for the first."""

    def prompt(self, prompt: Any) -> Any:
        return prompt

    def parted(self, prompt: Any, tokens: str) -> Parted:
        return Parted(tokens, "" if prompt == "p" else f"about {tokens}")


class Sampler:
    """Completions in turn, of which the second is cut off."""

    def __init__(self, *several: str) -> None:
        self.several, self.asked = several, list[Any]()

    def sample(self, prompts: Any, **how: Any) -> list[list[Any]]:
        self.asked.append((list(prompts), how))
        return [[SimpleNamespace(tokens=text, truncated=n == 1)] for n, text in enumerate(self.several)]


class Referee:
    def __init__(self, *results: MatchResult | None) -> None:
        self.results, self.asked, self.provenance = results, list[Any](), {"kind": "k"}

    def outcomes(self, matchups: Any, progress: Any) -> Any:
        self.asked.append((list(matchups), progress))
        return self.results


def rate(referee: Referee, samples: Path, **how: Any) -> RateInTraining:
    settings = WinRateInTraining(**{"prompts": "f", "judge": "reward:r", **how})
    return RateInTraining(settings, RECORDS, referee, samples)  # type: ignore[arg-type]  # as much as is asked


def test_answers_are_drawn_judged_and_left_as_rows(tmp_path: Path) -> None:
    """The first answers of a run play against themselves."""
    referee, sampler, heard = Referee(MatchResult(1.0), None), Sampler("four", "so"), Heard()
    made = rate(referee, tmp_path / "none")
    figures, rows = made(sampler, Codec(), 5, heard)  # type: ignore[arg-type]
    assert sampler.asked == [(["p", CHAT], {"samples": 1, "seed": (5, 0)})]
    ((matchups, progress),) = referee.asked
    assert matchups == [
        Matchup("p", "four", "four", Source("f", 1), "#### 4"), Matchup(CHAT, "so", "so", Source("f", 2), None),
    ]  # fmt: skip
    assert progress is heard
    want = Shares([Game(0, "p", 1.0, 4, 4)]).estimate()
    assert figures == {
        "win_rate/rate": 1.0, "win_rate/low": want.low, "win_rate/high": want.high, "win_rate/n": 1.0,
    }  # fmt: skip
    common = {"kind": "win_rate"}
    assert rows == [
        {**common, "name": "f:1", "prompt": "p", "completion": "four", "other": "four", "share": 1.0,
         "truncated": False},
        {**common, "name": "f:2", "prompt": "system: be brief\nuser: q", "completion": "so", "other": "so",
         "share": None, "truncated": True, "reasoning": "about so"},
    ]  # fmt: skip
    _, again = made(Sampler("4", "mi"), Codec(), 5, heard)  # type: ignore[arg-type]
    assert [row["other"] for row in again] == ["four", "so"]


def test_a_judge_without_labeled_pairs_is_noted_once(tmp_path: Path) -> None:
    """One that reads reference answers has no accuracy to measure."""
    heard = Heard()
    made = rate(Referee(None, None), tmp_path / "none")
    for _ in range(2):
        made(Sampler("a", "b"), Codec(), 0, heard)  # type: ignore[arg-type]
    assert heard.notes == ["win rate: the accuracy of reward:r is not measured (evaluation.win_rate.judge_pairs)"]
    heard = Heard()
    rate(Referee(None, None), tmp_path / "none", judge="verifier")(Sampler("a", "b"), Codec(), 0, heard)  # type: ignore[arg-type]
    assert heard.notes == []


def test_the_start_is_the_first_step_of_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    assert module._started(path) == []
    path.write_text(
        '{"kind": "win_rate", "step": 0, "completion": "a"}\n{"step": 0, "completion": "b"}\n'
        '{"kind": "win_rate", "step": 1, "completion": "c"}\n{"kind": "win_rate", "step": 0, "completion": "d"}\n',
        encoding="utf-8",
    )
    assert module._started(path) == ["a", "d"]


def opened(monkeypatch: pytest.MonkeyPatch, records: Any, **kind: Any) -> list[Any]:
    calls = list[Any]()
    known = {"asks_server": False, "gives": "scores", "needs_truth": False, **kind}
    monkeypatch.setattr(module, "parse_judge", lambda name, place: SimpleNamespace(**known))
    monkeypatch.setattr(module, "rows_of", lambda data, task: calls.append((data, task)) or list(records))
    monkeypatch.setattr(module, "labeled_pairs", lambda rows: [f"pair of {len(rows)}"])
    monkeypatch.setattr(module, "open_referee", lambda *given: calls.append(given) or "referee")
    monkeypatch.setattr(module, "open_reward", lambda folder, **how: (folder, how))
    return calls


def test_a_rate_is_opened_with_its_rows_pairs_and_length(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = opened(monkeypatch, RECORDS)
    how = WinRateInTraining(prompts="f", judge="reward:r", limit=1, max_length=77, judge_pairs="g")
    with ExitStack() as stack:
        made = RateInTraining.open(how, tmp_path, stack)
    assert calls[:2] == [("f", "win-rate"), ("g", "judge")]
    name, resources, same = calls[2]
    assert (name, resources.place, same is stack) == ("reward:r", module.WIN_RATE, True)
    assert resources.open_reward("r") == ("r", {"max_length": 77})
    assert (made.how, made.records, made.referee, made.samples) == (how, RECORDS[:1], "referee", tmp_path)
    assert made.pairs == ["pair of 2"]


@pytest.mark.parametrize(
    ("kind", "how", "error", "words"),
    [
        ({"asks_server": True}, {}, RecipeError,
         ("k does not judge during training", "evaluation.win_rate",
          "choose reward:FOLDER or a verifier; `twofold evaluate` asks servers and people")),
        ({"gives": "verdicts"}, {}, RecipeError, ("k does not judge during training", "evaluation.win_rate", None)),
        ({"needs_truth": True}, {}, DataError, ("has no reference answer", "f:2", "k needs one")),
        ({}, {"against": "answers"}, DataError,
         ("has no answer to compare with", "f:2", "rows need an answer, or set evaluation.win_rate.against=start")),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_words(
    kind: dict[str, Any], how: dict[str, Any], error: Any, words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(monkeypatch, RECORDS, **kind)
    with pytest.raises(error) as refused:
        RateInTraining.open(WinRateInTraining(prompts="f", judge="k", **how), Path("s"), ExitStack())
    found = refused.value.what, refused.value.where, refused.value.remedy
    assert found[:2] == words[:2]
    assert words[2] in (None, found[2])
