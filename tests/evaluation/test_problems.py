"""Which lines a table has, and how problems are put in each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from twofold.errors import DataError, RecipeError
from twofold.evaluation.problems import PromptSettings, each_model, in_order
from twofold.evaluation.prompting import PRESETS, Prompting, drawn
from twofold.records import Message, Source, Task
from twofold.sampling.base import Sampler, Sampling
from twofold.sampling.local import LocalSampler
from twofold.sampling.named_model import NamedModel

PROBLEMS = [Task("four", "#### 4", Source("t", 1))]
CHATS = [Task((Message("user", "four"),), "#### 4", Source("t", 1))]
WORKED = [Task(f"{word} ?", f"#### {n}", Source("train.jsonl", n)) for n, word in enumerate(("one", "two", "five"), 1)]


@pytest.fixture
def examples(tmp_path: Path) -> str:
    path = tmp_path / "train.jsonl"
    rows = ({"prompt": task.prompt, "answer": task.answer} for task in WORKED)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lines(models: list[str], problems: list[Task] = PROBLEMS, temperature: float = 0.0, **how: Any) -> dict[str, Any]:
    """Of each line of the table what work is handed: its name, sampler, encoder and prompting."""

    def work(name: str, sampler: Sampler, model: NamedModel, prompting: Prompting) -> Any:
        assert isinstance(sampler, LocalSampler)
        return name, sampler, model.encoder, prompting

    return each_model(models, problems, PromptSettings(**how), temperature, work)


def prompting(model: str, problems: list[Task] = PROBLEMS, **how: Any) -> Prompting:
    return lines([model], problems, **how)[model][3]


def test_each_model_has_a_line_and_the_first_one_its_shots(simple: str, wise: str, examples: str) -> None:
    heard = Heard()
    found = lines([simple, wise, simple], shots=1, prompted=(0, 1, 2), examples=examples, seed=3, progress=heard)
    assert list(found) == [simple, f"{simple}, zero-shot", f"{simple}, 2-shot", wise]
    assert [line[0] for line in found.values()] == list(found)
    shots = [line[3].examples for line in found.values()]
    expected = drawn([Task(t.prompt, t.answer, Source(examples, t.source.row)) for t in WORKED], PROBLEMS, 2, 3)
    assert shots == [expected[:1], (), expected, expected[:1]]
    assert heard.notes == [f"{name}: 1 problem" for name in found]
    assert found[simple][2] is found[f"{simple}, 2-shot"][2]  # one model, opened once


def test_the_sampler_is_greedy_or_not_as_long_and_stops_as_it_should(simple: str, examples: str) -> None:
    plain, settings = lines([simple])[simple], Sampling(temperature=0.7, max_new_tokens=9, stop=("\n\nQ:",))
    assert plain[1].settings == Sampling(temperature=0.0, max_new_tokens=256)
    assert plain[3] == Prompting("{prompt}", False, (), plain[2].turns)
    warm = lines([simple], temperature=0.7, max_new_tokens=9, shots=1, examples=examples, template="Q: {prompt}")
    assert warm[simple][1].settings == settings


def test_the_seed_draws_the_examples(simple: str, examples: str) -> None:
    found = [prompting(simple, shots=3, examples=examples, seed=seed).examples for seed in range(5)]
    assert prompting(simple, shots=3, examples=examples).examples == found[0]
    assert len({tuple(task.prompt for task in order) for order in found}) > 1


def test_templates_are_the_presets_unless_there_is_one(simple: str, chatty: str) -> None:
    gsm8k = PRESETS["gsm8k"]
    assert [(p.template, p.chat) for p in (prompting(simple, preset="gsm8k"), prompting(chatty, preset="gsm8k"))] == [
        (gsm8k.text, False), (gsm8k.chat, True),
    ]  # fmt: skip
    assert prompting(chatty, preset="gsm8k", style="text").template == gsm8k.text
    assert prompting(chatty, preset="gsm8k", template="{prompt} ?").template == "{prompt} ?"
    for wrong in ("Q:", ""):
        with pytest.raises(RecipeError) as refused:
            lines([simple], template=wrong)
        assert str(refused.value) == "--template: lacks {prompt}\n  → write {prompt} for the problem"


@pytest.mark.parametrize(
    ("style", "chats", "chat"),
    [("auto", False, True), ("auto", True, True), ("chat", False, True), ("text", False, False), ("text", True, False)],
)
def test_a_model_with_a_template_gets_chats(chatty: str, style: str, chats: bool, chat: bool) -> None:
    assert prompting(chatty, CHATS if chats else PROBLEMS, style=style).chat == chat


def test_chats_need_a_template(simple: str) -> None:
    with pytest.raises(RecipeError) as refused:
        lines([simple], [*PROBLEMS, *CHATS])
    assert str(refused.value) == (
        "--style: the rows are chats, and the model has no chat template\n  → use text prompts"
    )
    assert not prompting(simple, CHATS, style="text").chat  # each row is then refused by its name


def test_worked_examples_come_from_a_file_of_problems(simple: str, tmp_path: Path) -> None:
    for how in ({"shots": 1}, {"prompted": (2,)}):
        with pytest.raises(RecipeError) as refused:
            lines(["no such model"], **how)
        assert str(refused.value) == "--shots and --prompted: no worked examples\n  → name a file: --examples FILE"
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(DataError) as refused:
        lines(["no such model"], shots=1, examples=str(pairs))
    assert str(refused.value) == f"{pairs}: holds no worked examples\n  → rows need a prompt and an answer"
    assert prompting(simple, prompted=(0,)).examples == ()  # none are wanted, so none are looked for


def test_of_a_folder_the_examples_are_those_to_train_on(simple: str, tmp_path: Path) -> None:
    for name, word in (("train", "one"), ("test", "two")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": word, "answer": "1"}) + "\n")
    (example,) = prompting(simple, shots=1, examples=str(tmp_path)).examples
    assert example.prompt == "one"


def test_lines_are_in_the_order_of_their_players_and_further_lines_before_the_second() -> None:
    assert [*in_order(["a", "b"], {"b": 1, "a": 2, "more": 3})] == ["a", "more", "b"]
    assert [*in_order(["a", "b"], {"b": 1, "a": 2})] == ["a", "b"]
