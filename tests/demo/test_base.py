from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import twofold.demo
from twofold.demo.build import BaseSettings, character_tokenizer, train, untrained_model
from twofold.demo.task import problems

BASE = Path(twofold.demo.__file__).parent / "base"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def base():
    return AutoModelForCausalLM.from_pretrained(BASE).eval()


def test_the_folder_is_small_and_holds_no_pickle() -> None:
    files = [path for path in BASE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4_000_000
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_every_problem_comes_back_from_its_tokens(tokenizer) -> None:
    for problem in problems("test", 300):
        for text in (problem.prompt, problem.worked, problem.terse):
            tokens = tokenizer(text)["input_ids"]
            assert len(tokens) == len(text) + 1
            assert tokens[0] == tokenizer.bos_token_id
            assert tokenizer.decode(tokens, skip_special_tokens=True) == text


def test_tokens_of_a_prompt_open_the_tokens_of_prompt_and_completion(tokenizer) -> None:
    problem = problems("test", 1)[0]
    prompt = tokenizer(problem.prompt)["input_ids"]
    assert tokenizer(problem.prompt + problem.worked)["input_ids"][: len(prompt)] == prompt
    assert tokenizer("")["input_ids"] == [tokenizer.bos_token_id]


def test_an_unknown_character_becomes_one_token(tokenizer) -> None:
    assert tokenizer("é")["input_ids"] == [tokenizer.bos_token_id, tokenizer.unk_token_id]


def test_the_saved_tokenizer_is_the_built_one(tokenizer) -> None:
    assert tokenizer.get_vocab() == character_tokenizer().get_vocab()


def decode(base, tokenizer, prompts: list[str]) -> list[str]:
    rows = tokenizer(prompts, return_tensors="pt", padding=True)
    with torch.no_grad():
        tokens = base.generate(**rows, max_new_tokens=30, do_sample=False)
    return tokenizer.batch_decode(tokens[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)


def test_the_base_solves_in_steps_what_it_gets_wrong_tersely(base, tokenizer) -> None:
    rows = problems("test", 100)
    answers = decode(base, tokenizer, [row.prompt for row in rows])
    steps = decode(base, tokenizer, [row.prompt + row.worked[0] for row in rows])
    right = sum(answer.endswith(row.terse) for row, answer in zip(rows, answers, strict=True))
    worked = sum(answer.endswith(row.terse) for row, answer in zip(rows, steps, strict=True))
    terse = sum(answer.startswith("#") for answer in answers)
    assert right <= 55
    assert terse >= 50
    assert worked >= 80


def test_training_repeats_and_learns() -> None:
    tokenizer = character_tokenizer()
    settings = BaseSettings(steps=6, rows=4, warmup=2)
    losses: list[list[float]] = []
    models = [untrained_model(tokenizer, settings.seed) for _ in range(2)]
    for model in models:
        record = Losses()
        train(model, tokenizer, settings, record)
        losses.append(record.losses)
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0] - 0.3
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


class Losses:
    """Keeps every loss."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def begin(self, task: str, total: int | None = None) -> None: ...

    def advance(self, task: str, steps: int = 1, **figures: float) -> None:
        self.losses.append(figures["loss"])

    def end(self, task: str) -> None: ...

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...
