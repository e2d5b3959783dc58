"""How reward models, process reward models, classifiers and guides are opened, and what they say they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from support import tiny
from support.heard import Tasks
from twofold.errors import DataError, ModelError
from twofold.models.load import ModelSettings
from twofold.models.packing import Packing
from twofold.progress import Silent
from twofold.records import Demonstration, Source
from twofold.rewards import classifier, guides, model, rows, steps
from twofold.rewards.classifier import Classifier
from twofold.rewards.guides import RewardGuide, StepGuide, ValueGuide
from twofold.rewards.model import ModelReward, ModelScorer, open_reward
from twofold.rewards.steps import AGGREGATES, StepScorer


def words(*several: str) -> Any:
    """A tokenizer of these words."""
    return SimpleNamespace(get_vocab=lambda: {word: n for n, word in enumerate(several)})


def refused(call: Any, *given: Any, **how: Any) -> tuple[str, str, str]:
    with pytest.raises(ModelError) as error:
        call(*given, **how)
    return error.value.what, error.value.where, error.value.remedy


def test_a_reward_is_opened_with_its_length_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `steps` as a process reward model that combines steps in this way."""
    calls = list[Any]()
    for cls in (ModelScorer, StepScorer):
        monkeypatch.setattr(cls, "load", lambda *given, cls=cls, **how: calls.append((cls, given, how)))
    monkeypatch.setattr(model, "model_path", lambda name: f"{name}/model")
    open_reward("run", 77, cut_prompt=True)
    open_reward("run")
    open_reward("run", 77, cut_prompt=True, steps="last")
    settings = ModelSettings(path="run/model")
    assert calls == [
        (ModelScorer, (settings, 77), {"cut_prompt": True}), (ModelScorer, (settings, 1024), {"cut_prompt": False}),
        (StepScorer, ("run", 77), {"cut_prompt": True, "how": "last"}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cut", "separator", "truncation"), [(False, None, "refuse"), (True, "\n", "cut_prompt"), (False, ";", "refuse")]
)
def test_an_encoder_has_length_cut_and_separator(cut: bool, separator: str | None, truncation: str) -> None:
    loaded: Any = SimpleNamespace(tokenizer=tiny.tokenizer(), stop_tokens=frozenset({0}))
    made = rows.encoder_of(loaded, 77, cut_prompt=cut, separator=separator)
    how = made.settings
    assert (how.max_length, how.truncation, made.stop_tokens) == (77, truncation, frozenset({0}))
    assert how.step_separator == (type(how)().step_separator if separator is None else separator)


def test_a_row_that_is_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = SimpleNamespace(dropped=["f:2", "f:3"], groups=[])
    monkeypatch.setattr(rows, "encode", lambda records, encoder, progress: encoded)
    encoder: Any = SimpleNamespace(settings=SimpleNamespace(max_length=77))
    with pytest.raises(DataError) as error:
        rows.groups_of([], encoder, Silent())
    assert (error.value.what, error.value.where) == ("a completion is longer than max_length (77)", "f:2")
    assert error.value.remedy == "raise max_length"


def test_a_process_reward_model_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = SimpleNamespace(tokenizer=words("a"))
    monkeypatch.setattr(model, "load_reward_model", lambda settings: (SimpleNamespace(note=""), loaded))
    monkeypatch.setattr(model, "separator_of", lambda tokenizer: "\n")
    settings = ModelSettings(path="run/model")
    want = ("this is a process reward model, which scores steps", "run/model",
            "name it process:run/model, where a judge is named")  # fmt: skip
    assert refused(ModelScorer.load, settings) == want
    assert refused(ModelReward.load, settings, words("a"), Packing()) == want


def step_model(monkeypatch: pytest.MonkeyPatch, note: str, separator: str | None) -> list[Any]:
    calls = list[Any]()
    loaded = SimpleNamespace(tokenizer=words("a"), stop_tokens=frozenset({0}))
    held = SimpleNamespace(note=note)
    monkeypatch.setattr(steps, "load_value_model", lambda settings: calls.append(settings) or (held, loaded))
    monkeypatch.setattr(steps, "model_path", lambda name: f"{name}/model")
    monkeypatch.setattr(steps, "separator_of", lambda tokenizer: separator)
    monkeypatch.setattr(steps, "encoder_of", lambda *given, **how: calls.append((given[1:], how)) or "encoder")
    return calls


def test_a_scorer_of_steps_has_its_length_cut_and_separator(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = step_model(monkeypatch, "", "\n")
    made = StepScorer.load("run", 77, cut_prompt=True, how="mean")
    assert calls == [ModelSettings(path="run/model"), ((77,), {"cut_prompt": True, "separator": "\n"})]
    assert (made.encoder, made.separator, made.how) == ("encoder", "\n", "mean")
    plain = StepScorer.load("run")
    assert (calls[3], plain.how) == (((1024,), {"cut_prompt": False, "separator": "\n"}), "min")


@pytest.mark.parametrize(("note", "separator"), [("fresh head", "\n"), ("", None)])
def test_a_model_that_is_none_of_steps_is_refused(
    note: str, separator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_model(monkeypatch, note, separator)
    remedy = "train one: objective.kind=process_reward; other reward models are named reward:FOLDER"
    assert refused(StepScorer.load, "run") == ("this is no process reward model", "run/model", remedy)


def test_steps_are_combined_in_four_ways() -> None:
    found = {how: combine([0.5, 0.8, 0.6]) for how, combine in AGGREGATES.items()}
    assert found == {"min": 0.5, "product": pytest.approx(0.24), "last": 0.6, "mean": pytest.approx(1.9 / 3)}


def test_steps_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part with its own records."""
    monkeypatch.setattr(steps, "AT_ONCE", 2)
    branch = SimpleNamespace(tokens="t")
    monkeypatch.setattr(steps, "groups_of", lambda records, *_: [SimpleNamespace(branches=[branch]) for _ in records])
    asked = list[int]()

    def values(part: Any) -> list[Any]:
        asked.append(len(part))
        return [[len(asked) * 10 + n] for n in range(len(part))]

    held: Any = SimpleNamespace(values=values)
    made, encoder = StepScorer(held, None, "\n"), Tasks()  # type: ignore[arg-type]  # no encoder is read
    monkeypatch.setattr(StepScorer, "_steps", lambda self, record, tokens, row: [record, row])
    assert made.steps(["a", "b", "c"], encoder) == [[["a", 10]], [["b", 11]], [["c", 20]]]  # type: ignore[list-item]
    assert encoder.calls == [("begin", "score", 3), ("advance", "score", 2), ("advance", "score", 1), ("end", "score")]
    assert asked == [2, 1]


class Held(nn.Module):
    """A model with a head that was trained or not."""

    def __init__(self, note: str = "") -> None:
        super().__init__()
        self.model, self.note = nn.Linear(1, 1), note


def test_a_value_model_guides_frozen_with_its_stop_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    held, calls = Held(), list[Any]()
    loaded = SimpleNamespace(tokenizer=words("a", "b"), stop_tokens=frozenset({7, 3}))
    monkeypatch.setattr(guides, "load_value_model", lambda settings: calls.append(settings) or (held, loaded))
    guide = ValueGuide.load("run/value", words("a", "b"))
    assert calls == [ModelSettings(path="run/value")]
    assert (guide.stop_tokens, any(p.requires_grad for p in held.parameters())) == (frozenset({7, 3}), False)
    what = "has another vocabulary than the policy, whose tokens it values"
    assert refused(ValueGuide.load, "run/value", words("a")) == (what, "run/value", "name one of its own runs")
    held.note = "fresh"
    remedy = "name the directory of a finished PPO run, which has its value model"
    assert refused(ValueGuide.load, "v", words("a", "b")) == ("this model has no trained head", "v", remedy)


def test_a_guide_of_steps_is_opened_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[Any]()
    scorer = SimpleNamespace(encoder=SimpleNamespace(tokenizer=words("a")), how="last", model=Held())

    def load(name: str, **how: Any) -> Any:
        calls.append((name, how))
        return scorer

    monkeypatch.setattr(StepScorer, "load", load)
    assert StepGuide.load("run", words("a"), "last").scorer is scorer
    assert calls == [("run", {"how": "last"})]
    what = "has another vocabulary than the policy, whose tokens it scores"
    assert refused(StepGuide.load, "run", words("b"), "last") == (what, "run", "train one from its base")


def test_guides_of_one_model_have_digests_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value model's values are others than a reward model's; so are those of steps that are combined otherwise."""
    monkeypatch.setattr(guides, "weights_digest", lambda model, begin="": (model, begin))
    held: Any = Held()
    scorer: Any = SimpleNamespace(model=held, how="mean")
    assert RewardGuide(held).digest == (held.model, "")
    assert ValueGuide(held, frozenset()).digest == (held.model, "value")
    assert StepGuide(scorer).digest == (held.model, "mean")


class Tokens:
    """One token per word; it records how it was called."""

    def __init__(self, limit: int, pad: int | None = 0) -> None:
        self.model_max_length, self.pad_token_id, self.calls = limit, pad, list[Any]()

    def __call__(self, *texts: Any, **how: Any) -> Any:
        self.calls.append((texts, how))
        return {"input_ids": [text.split() for text in texts[0]]}


def reading(tokens: Tokens, positions: int | None, reads: Any = "completion") -> Classifier:
    config = SimpleNamespace() if positions is None else SimpleNamespace(max_position_embeddings=positions)
    held: Any = SimpleNamespace(config=config)
    return Classifier(held, tokens, 0, reads)  # type: ignore[arg-type]  # as much as is read


@pytest.mark.parametrize(
    ("own", "positions", "limit"),
    [(6, 8, 6), (9, 8, 9), (10**6 - 1, 8, 10**6 - 1), (10**6, 8, 8), (10**30, 8, 8), (10**6, None, 10**6)],
)
def test_a_classifier_reads_as_far_as_its_tokenizer_or_its_positions(
    own: int, positions: int | None, limit: int
) -> None:
    assert reading(Tokens(own), positions).limit == limit


def test_texts_that_are_too_long_are_counted_whole() -> None:
    tokens = Tokens(3)
    texts = [("p", "a b c"), ("p", "a b c d"), ("p", "a b c d e")]
    assert reading(tokens, None).too_long(texts) == 2
    assert tokens.calls == [((["a b c", "a b c d", "a b c d e"],), {"truncation": False})]
    assert reading(tokens, None).too_long([]) == 0


@pytest.mark.parametrize(("reads", "texts"), [("completion", (["b"],)), ("whole", (["ab"],)), ("pair", (["a"], ["b"]))])
def test_a_classifier_reads_completion_both_or_a_pair(reads: Any, texts: Any) -> None:
    tokens = Tokens(3)
    reading(tokens, None, reads)._encoded([("a", "b")], padding=True)
    assert tokens.calls == [(texts, {"padding": True})]


@pytest.mark.parametrize(("pad", "sizes"), [(0, [32, 1]), (None, [1] * 33)])
def test_texts_are_scored_together_where_they_can_be_padded(
    pad: int | None, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()

    def scores(self: Any, texts: Any) -> Any:
        seen.append(len(texts))
        return torch.tensor([float(text[1]) for text in texts])

    monkeypatch.setattr(Classifier, "_scores", scores)
    assert reading(Tokens(3, pad), None).scores([("p", str(n)) for n in range(33)]) == [float(n) for n in range(33)]
    assert seen == sizes


def test_a_label_is_meant_by_name_then_in_any_case_then_by_number() -> None:
    config = SimpleNamespace(id2label={0: "b", 1: "B", 2: "0", "3": "c"})
    found = {label: classifier._label(config, label, "m") for label in ("b", "B", "0", "1", "3", "C")}
    assert found == {"b": 0, "B": 1, "0": 2, "1": 1, "3": 3, "C": 3}
    want = ("has no label 'd'", "m", "name the label that is rewarded: #b, #B, #0, #c")
    assert refused(classifier._label, config, "d", "m") == want
    assert refused(classifier._label, config, "", "m")[0] == "has 4 labels"
    assert classifier._label(SimpleNamespace(id2label={0: "x"}), "", "m") == 0


def test_a_classifier_is_opened_frozen_and_for_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, held = list[Any](), nn.Dropout(0.5)
    held.weight = nn.Parameter(torch.ones(1))
    monkeypatch.setattr(classifier, "refuse_missing", calls.append)
    monkeypatch.setattr(classifier, "model_path", lambda name: f"{name}/model")
    monkeypatch.setattr(classifier, "is_classifier", lambda path: path == "m/model")
    monkeypatch.setattr(classifier, "config_at", lambda path: SimpleNamespace(id2label={0: "x", 1: "y"}))
    monkeypatch.setattr(classifier, "load_weights", lambda *given: calls.append(given) or held)
    monkeypatch.setattr(classifier, "load_tokenizer", lambda path: f"tokenizer of {path}")
    made = Classifier.load("m", "y", "pair")
    assert (made.tokenizer, made.label, made.reads) == ("tokenizer of m/model", 1, "pair")
    assert (held.training, held.weight.requires_grad) == (False, False)
    auto = classifier.AutoModelForSequenceClassification
    assert calls == ["m", (ModelSettings(path="m/model"), "m/model", auto)]
    what, where, remedy = refused(Classifier.load, "n")
    assert (what, where) == ("is no classifier", "n")
    assert remedy == "name a text-classification model; a language model as judge is written llm:URL#NAME"


def test_rows_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "AT_ONCE", 2)
    monkeypatch.setattr(model, "groups_of", lambda records, encoder, progress: [r.prompt for r in records])
    held: Any = SimpleNamespace(scores=lambda part: [[float(text)] for text in part])
    told, encoder = Tasks(), None
    records = [Demonstration(str(n), "a", Source("f", n)) for n in range(3)]
    assert ModelScorer(held, encoder).score(records, told) == [[0.0], [1.0], [2.0]]  # type: ignore[arg-type]
    assert told.calls == [("begin", "score", 3), ("advance", "score", 2), ("advance", "score", 1), ("end", "score")]


@pytest.mark.parametrize("kind", [RewardGuide, ValueGuide])
def test_values_of_a_guide_are_float64_whatever_the_models_are(kind: Any) -> None:
    """They are added to sums of log-probabilities. Of a text that has stopped, the value before its stop token."""
    asked = list[Any]()
    rows = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])]

    def values(groups: Any) -> Any:
        asked.extend(groups)
        return [rows]

    held: Any = SimpleNamespace(scores=lambda groups: values(groups) and [[2.5, 4.5]], values=values)
    guide = kind(held) if kind is RewardGuide else kind(held, frozenset({9, 7}))
    found = guide(torch.tensor([1]), torch.tensor([[4, 5], [4, 9]]))
    want = [2.5, 4.5] if kind is RewardGuide else [3.0, 5.0]
    assert (found.tolist(), found.dtype) == (want, torch.float64)
    (group,) = asked
    more = [] if kind is RewardGuide else [7]
    assert group.name == "a partial answer"
    assert (group.prompt.tolist(), [b.tokens.tolist() for b in group.branches]) == ([1], [[4, 5, *more], [4, 9, *more]])
