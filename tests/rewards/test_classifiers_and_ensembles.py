"""Text classifiers with their own tokenizers, and several rewards as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from twofold.batch import Branch, Group, Role
from twofold.errors import ModelError
from twofold.judges.base import DraftResources, JudgeNameError, JudgeResources
from twofold.judges.drafts import open_draft_judge
from twofold.judges.questions import Question
from twofold.judges.registry import REWARD, SCORE, parse_judge
from twofold.progress import Silent
from twofold.records import Candidate, Source
from twofold.rewards.classifier import Classifier, Reads
from twofold.rewards.ensemble import combined

WORDS = ["[PAD]", "[UNK]", "good", "bad", "fine", "film", "the", "is"]


def classifier(folder: Path, labels: int = 3, **config: object) -> str:
    """A random BERT on words."""
    torch.manual_seed(labels)
    names = {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"} if labels == 3 else None
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    more = {"num_labels": labels, **sizes, **config, **({"id2label": names} if names else {})}
    shape = BertConfig(vocab_size=len(WORDS), max_position_embeddings=8, pad_token_id=0, initializer_range=1.0, **more)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    own = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=6)
    BertForSequenceClassification(shape).save_pretrained(folder)
    own.save_pretrained(folder)
    return str(folder)


def logits(folder: str, *tokens: int) -> torch.Tensor:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits[0].double()


def test_the_log_odds_of_a_label(tmp_path: Path) -> None:
    """By name in any case or by index, alone or next to a longer text."""
    folder = classifier(tmp_path)
    p = logits(folder, 6, 5, 7, 2).softmax(0)  # the film is good
    want = [math.log(x / (1 - x)) for x in p.tolist()]
    for label, place in (("POSITIVE", 2), ("negative", 0), ("1", 1)):
        found = Classifier.load(folder, label)
        texts = [("why", "the film is good"), ("why", "bad"), ("", "is is is is is is")]
        assert found.scores(texts)[0] == pytest.approx(want[place], abs=1e-5)
        assert found.scores(texts[:1])[0] == pytest.approx(want[place], abs=1e-5)


@pytest.mark.parametrize(("reads", "tokens"), [("completion", (2, 5)), ("whole", (6, 5, 7, 2, 5))])
def test_what_is_read(tmp_path: Path, reads: Reads, tokens: tuple[int, ...]) -> None:
    folder = classifier(tmp_path, 1)
    found = Classifier.load(folder, reads=reads)
    assert found.scores([("the film is ", "good film")]) == [pytest.approx(logits(folder, *tokens).item(), abs=1e-5)]


def test_independent_labels_give_their_logit(tmp_path: Path) -> None:
    folder = classifier(tmp_path, problem_type="multi_label_classification")
    found = Classifier.load(folder, "NEUTRAL").scores([("", "fine")])
    assert found == [pytest.approx(logits(folder, 4)[1].item(), abs=1e-5)]


def test_what_is_no_classifier_or_has_no_such_label(tmp_path: Path) -> None:
    folder = classifier(tmp_path)
    with pytest.raises(ModelError) as refused:
        Classifier.load(folder)
    assert str(refused.value) == (
        f"{folder}: has 3 labels\n  → name the label that is rewarded: #NEGATIVE, #NEUTRAL, #POSITIVE"
    )
    with pytest.raises(ModelError, match="has no label 'GOOD'"):
        Classifier.load(folder, "GOOD")
    with pytest.raises(ModelError, match="no such folder"):
        Classifier.load("./nowhere")


def test_a_classifier_judges_texts_and_reports_what_it_cannot_read(tmp_path: Path) -> None:
    folder, progress = classifier(tmp_path), Silent()
    candidates = (Candidate("good", {}), Candidate("the film is good the film is bad", {}))
    with ExitStack() as stack:
        kind = parse_judge(f"classifier:{folder}#POSITIVE?reads=completion", SCORE)
        judge = kind.open(JudgeResources(SCORE, pytest.fail), stack)
        (scores,) = judge.scores([Question("why", Source("s", 1), None, candidates)], progress)
    want = Classifier.load(folder, "POSITIVE").scores([("", "good"), ("", "the film is good the film")])
    assert scores == pytest.approx(want, abs=1e-5)
    assert judge.provenance == {"kind": "classifier", "model": folder, "label": "POSITIVE", "reads": "completion"}
    assert progress.warnings == ["1 texts are longer than 6 tokens: their ends are not read"]
    with pytest.raises(ValueError, match="the judge is written classifier:FOLDER"):
        parse_judge(f"classifier:{folder}?reads=all", SCORE)


def test_ensembles_by_hand() -> None:
    scores = [[1.0, 4.0], [3.0, math.nan], [5.0, 0.0]]
    assert combined("mean", scores)[0] == 3.0
    assert combined("min", scores)[0] == 1.0
    assert combined("lower", scores)[0] == pytest.approx(3 - math.sqrt(8 / 3))
    assert all(math.isnan(combined(how, scores)[1]) for how in ("mean", "min", "lower"))  # type: ignore[arg-type]


class Length:
    """A reward model that reads tokens: their number, times a factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def rate(self, groups: Sequence[Group]) -> list[list[float]]:
        return [[self.factor * len(b.tokens) for b in g.branches] for g in groups]


def test_an_ensemble_rewards_samples_by_tokens_and_by_texts(tmp_path: Path) -> None:
    """Twice the length and the length of tokens, and a classifier of texts."""
    folder = classifier(tmp_path)
    of_texts = JudgeResources(REWARD, pytest.fail)
    drafts = DraftResources(
        of_texts, lambda t: " ".join(WORDS[i] for i in t), frozenset({1}), lambda name: Length(float(name))
    )
    group = Group("f:1", torch.tensor([6, 5]), (Branch(torch.tensor([2, 5, 7]), Role.DRAFT),), None)
    alone = Classifier.load(folder, "POSITIVE").scores([("", "good film is")])[0]
    with ExitStack() as stack:
        for how, want in (("mean", (6 + 3 + alone) / 3), ("min", min(3, alone))):
            name = f"ensemble:{how}:reward:2,reward:1,classifier:{folder}#POSITIVE"
            assert open_draft_judge(name, drafts, stack, [group]).rate([group]) == [[pytest.approx(want, abs=1e-5)]]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ensemble:min:reward:a", "an ensemble is written ensemble:HOW:JUDGE,JUDGE"),
        ("ensemble:max:reward:a,reward:b", "with HOW one of mean, min, lower"),
        ("ensemble:min:reward:a,llm-score:http://h/v1#m", "llm-score cannot be part of an ensemble"),
        ("ensemble:min:reward:a,nobody", "no judge is called 'nobody'"),
        ("ensemble:min:reward:a,ensemble:min:reward:b", "an ensemble is written"),
    ],
)
def test_what_is_no_ensemble(name: str, told: str) -> None:
    with pytest.raises(JudgeNameError) as refused:
        parse_judge(name, SCORE)
    assert told in str(refused.value)


def test_an_ensemble_judges_texts_of_a_file() -> None:
    with ExitStack() as stack:
        kind = parse_judge("ensemble:mean:verifier:strict,verifier:flexible", SCORE)
        judge = kind.open(JudgeResources(SCORE, pytest.fail), stack)
        candidates = (Candidate("#### 4", {}), Candidate("it is 4", {}), Candidate("5", {}))
        assert judge.scores([Question("2+2", Source("s", 1), "#### 4", candidates)], Silent()) == [[1.0, 0.5, 0.0]]
    assert judge.provenance["how"] == "mean"
    assert [each["metric"] for each in judge.provenance["judges"]] == ["strict", "flexible"]
