"""How measurements are recorded: by model, weights and prompting, in batches, with the weights of every model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.data.reasoning import Parted
from twofold.evaluation import answers, frontier, likelihood, reward_scores
from twofold.evaluation.answers import Answered, measure_answers
from twofold.evaluation.frontier import FrontierSettings
from twofold.evaluation.likelihood import (
    Likely,
    PerplexitySettings,
    PreferenceSettings,
    measure_perplexity,
    measure_preference,
)
from twofold.evaluation.parts import Line
from twofold.evaluation.problems import PromptSettings
from twofold.evaluation.prompting import Prompting
from twofold.evaluation.reward_scores import Scored, ScoreSettings, measure_scores
from twofold.records import Demonstration, Pair, Record, Request, Source, Task

TASKS = [Task("p", "#### 1", Source("t", 1)), Task("q", "#### 2", Source("t", 2))]


class Part:
    """The second of two shards: notes how rows are wanted, and measures its items."""

    first, ledger = 1, object()

    def __init__(self) -> None:
        self.calls = list[Any]()

    def of(self, items: Any) -> Any:
        return items[1:]

    def weights(self, model: Any) -> str:
        return f"w-{model.name}"

    def rows(self, name: Any, items: Any, size: int, work: Any, bar: Any) -> list[Any]:
        self.calls.append((tuple(name), list(items), size, bar))
        return work(items[1:])


def test_answers_by_model_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 at a time; drawn under the seed of the settings."""
    heard, part, drawn = Heard(), Part(), list[Any]()

    def sample(prompts: Any, **how: Any) -> Any:
        drawn.append((list(prompts), how))
        return [[SimpleNamespace(tokens=[1, 2, 3], truncated=True)] for _ in prompts]

    encoder = SimpleNamespace(prompt=lambda prompt: prompt, parted=lambda prompt, tokens: Parted("so", "as"))
    model: Any = SimpleNamespace(name="m", encoder=encoder)
    sampler: Any = SimpleNamespace(sample=sample)

    def each(models: Any, problems: Any, how: Any, temperature: float, work: Any) -> Any:
        drawn.append((models, temperature))
        return {"m": work("m", sampler, model, Prompting("{prompt}?"))}

    monkeypatch.setattr(answers, "each_model", each)
    monkeypatch.setattr(answers, "each_other", lambda *_: {})
    judged = lambda name, rows: [(name, row) for row in rows]  # noqa: E731  # short
    found = measure_answers(["m"], TASKS, PromptSettings(seed=5, progress=heard), part, judged)  # type: ignore[arg-type]
    row = Answered("t:2", "q?", "so", "#### 2", True, 3, "as")
    assert found == {"m": Line([("m", row)], Prompting("{prompt}?").as_dict(), "w-m")}  # type: ignore[list-item]
    assert part.calls == [(("m", "w-m"), TASKS, 256, ("answers", heard))]
    assert drawn == [(["m"], 0.0), (["q?"], {"samples": 1, "seed": (5, 0)})]


PAIRS: list[Record] = [Pair("p", "a", "b", Source("f", n)) for n in range(40)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """How models are opened; each puts prompts in its own style, or as it is asked to."""
    calls = list[Any]()

    def open_one(name: str, tokenize: Any, style: str) -> Any:
        calls.append((name, tokenize.max_length, tokenize.truncation, style))
        choice = {"auto": "chat" if name == "c" else "text"}.get(style, style)
        encoder = SimpleNamespace(turns=SimpleNamespace(choice=choice, renders=choice == "chat"), group=lambda r: r)
        return SimpleNamespace(name=name, policy=(name, choice), encoder=encoder)

    def likely(policy: Any, groups: Any) -> list[Likely]:
        value = -float(ord(policy[0])) - (0.5 if policy[1] == "chat" else 0.0)
        sides = [{"completion": value * len(g.completion)} if isinstance(g, Demonstration)
                 else {"chosen": value, "rejected": -2.0} for g in groups]  # fmt: skip
        return [Likely(str(g.source), "p", side, dict.fromkeys(side, 1)) for g, side in zip(groups, sides, strict=True)]

    for module in (likelihood, reward_scores):
        monkeypatch.setattr(module, "open_model", open_one)
        monkeypatch.setattr(module, "likelihoods", likely)
    return calls


def test_likelihoods_by_model_weights_and_style(opened: list[Any]) -> None:
    """40 rows in sixteen batches of three; no longer than the settings have it."""
    heard, part = Heard(), Part()
    how = PerplexitySettings(max_length=77, progress=heard)
    found = measure_perplexity(["m", "c", "m"], PAIRS, how, part)  # type: ignore[arg-type]  # as much as is used
    assert opened == [(name, 77, "refuse", "auto") for name in "mc"]
    bar = ("log-probabilities", heard)
    assert part.calls == [(("m", "w-m", "text"), PAIRS, 3, bar), (("c", "w-c", "chat"), PAIRS, 3, bar)]
    assert [(name, line.weights, len(line.rows)) for name, line in found.items()] == [
        ("m", "w-m", 39),
        ("c", "w-c", 39),
    ]
    assert heard.notes == ["m: 39 rows", "c: 39 rows"]
    assert found["m"].rows[0]["logp"] == {"chosen": -109.0, "rejected": -2.0}


def test_a_reference_reads_as_each_model_does_and_its_weights_count(opened: list[Any]) -> None:
    """Once for each style."""
    heard, part = Heard(), Part()
    how = PreferenceSettings(reference="r", max_length=77, progress=heard)
    found = measure_preference(["m", "c", "k"], PAIRS, how, part)  # type: ignore[arg-type]  # as much as is used
    assert [(name, style) for name, _, _, style in opened] == [
        ("m", "auto"), ("r", "text"), ("c", "auto"), ("r", "chat"), ("k", "auto"),
    ]  # fmt: skip
    assert {(length, way) for _, length, way, _ in opened} == {(77, "refuse")}
    assert {name: line.weights for name, line in found.items()} == {"m": "w-mw-r", "c": "w-cw-r", "k": "w-kw-r"}
    bases = {name: line.rows[0]["reference"]["chosen"] for name, line in found.items()}
    assert bases == {"m": -114.0, "c": -114.5, "k": -114.0}
    plain = measure_preference(["m"], PAIRS, PreferenceSettings(), part)  # type: ignore[arg-type]
    assert (plain["m"].weights, "reference" in plain["m"].rows[0]) == ("w-m", False)


ITEMS = [Scored("p", ("a", "bb"), 1, Source("f", n), {"subset": f"s{n}"}) for n in range(20)]


def test_scores_are_implicit_rewards_against_a_reference(opened: list[Any]) -> None:
    """Log-probabilities are of each completion: one and two letters; models are named with their style."""
    heard, part = Heard(), Part()
    how = ScoreSettings(reference="r", max_length=77, progress=heard)
    found = measure_scores(["m", "c", "k"], ITEMS, how, part)  # type: ignore[arg-type]  # as much as is used
    assert opened == [
        ("m", 77, "refuse", "auto"), ("r", 77, "refuse", "text"), ("c", 77, "refuse", "auto"),
        ("r", 77, "refuse", "chat"), ("k", 77, "refuse", "auto"),
    ]  # fmt: skip
    assert part.calls[:2] == [
        ((name, f"w-{name}", "text"), ITEMS, 2, ("log-probabilities", heard)) for name in ("m", "r")
    ]
    assert part.calls[3][0] == ("r", "w-r", "chat")
    assert {name: line.weights for name, line in found.items()} == {"m": "w-mw-r", "c": "w-cw-r", "k": "w-kw-r"}
    assert {name: line.about for name, line in found.items()} == {
        name: {"score": "implicit reward", "reference": "r", "style": style}
        for name, style in (("m", "text"), ("c", "chat"), ("k", "text"))
    }
    assert len(found["m"].rows) == 19
    assert found["m"].rows[0] == {
        "model": "m", "name": "f:1", "subset": "s1", "right": 1, "scores": [114.0 - 109.0, 2 * (114.0 - 109.0)],
    }  # fmt: skip
    assert found["c"].rows[0]["scores"] == [114.5 - 99.5, 2 * (114.5 - 99.5)]
    assert heard.notes == ["m: 19 rows", "c: 19 rows", "k: 19 rows"]


def test_scores_without_a_reference_are_log_probabilities(opened: list[Any]) -> None:
    found = measure_scores(["m", "c"], ITEMS, ScoreSettings(style="text"), Part())  # type: ignore[arg-type]
    assert {name: (line.about, line.weights) for name, line in found.items()} == {
        name: ({"score": "log-probability", "style": "text"}, f"w-{name}") for name in "mc"
    }
    assert [style for *_, style in opened] == ["text", "text"]
    assert found["m"].rows[0]["scores"] == [-109.0, -218.0]


def test_points_by_model_step_weights_and_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, part, asked = Heard(), Part(), list[Any]()
    encoder = SimpleNamespace(prompt=lambda prompt: prompt, text=lambda tokens: "so")
    drawn = [[SimpleNamespace(tokens="x")]]
    sampler = SimpleNamespace(sample=lambda prompts, **how: drawn)
    model: Any = SimpleNamespace(
        name="m", encoder=encoder, sampler=lambda how, note: asked.append((how, note)) or sampler
    )
    judge: Any = SimpleNamespace(provenance={}, scores=lambda questions, progress: asked.append(progress) or [[1.0]])
    monkeypatch.setattr(frontier, "measures", lambda *given: [{"scores": given[4], "drawn": given[3]}])
    how = FrontierSettings(reward="r", reference="m", max_new_tokens=9, progress=heard)
    records: Any = [Request("p", Source("f", 1)), Request("q", Source("f", 2))]
    line = frontier._Measure(how, records, judge, part).line(model, ("own", None), 3, {"step": 7})  # type: ignore[arg-type]
    assert part.calls == [(("m", "7", "w-m", "3"), records, 256, ("prompts", heard))]
    assert (line.weights, line.about, line.rows) == ("w-m", {"step": 7}, [{"scores": [[1.0]], "drawn": drawn}])
    assert asked[0][0].max_new_tokens == 9
    assert asked[0][1].__func__ is Heard.note
    assert asked[1] is heard
