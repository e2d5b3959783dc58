"""What a run says of its prompts, hands to functions that judge, and refuses when it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import twofold as tf
from support.chat_templates import FAMILIES, HH, QUESTION
from support.openai_stub import Stub
from support.prompted import model_folder, rows
from twofold.client.server import RetrySettings
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.errors import CheckpointError, RecipeError
from twofold.evaluation.harness import HarnessRequest, harness
from twofold.ledger import Ledger
from twofold.progress import Silent
from twofold.records import Request, Source
from twofold.reports.provenance import facts
from twofold.reports.run import read_run
from twofold.runs.dry_run import dry_run
from twofold.runs.train import RunOptions
from twofold.sampling.answers import Draw, open_answerer
from twofold.sampling.base import Sampling

SAID = "1 as a user's turn in the model's chat template; 1 as transcripts split into turns of the model's chat template"
PAIRS = [{"prompt": p, "chosen": " 5", "rejected": " 6"} for p in (QUESTION, HH)]
ONE_STEP: dict[str, Any] = {"training": {"steps": 1, "batch_size": 2}}


class Notes(Silent):
    """Keeps what is noted, too."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return model_folder(FAMILIES[0], tmp_path_factory.mktemp("base"))


def test_how_prompts_are_put_is_said_once_and_stands_on_the_page(base: str, tmp_path: Path) -> None:
    pairs, progress = rows(tmp_path / "pairs.jsonl", PAIRS), Notes()
    tf.train(base, pairs, run=str(tmp_path / "run"), options=RunOptions(progress=progress), **ONE_STEP)
    assert [note for note in progress.notes if "template" in note] == [f"prompts: {SAID}"]
    assert progress.warnings == []
    run = read_run(tmp_path / "run")
    assert facts(run)[-1] == f"prompts {SAID}"
    assert run.environment["tokens"]["train"]["forms"] == {"turn": 1, "transcript": 1}
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert SAID.replace("'", "&#39;") in page
    data = {"model": {"path": base}, "data": {"train": pairs}, "run": str(tmp_path / "dry"), **ONE_STEP}
    assert f"prompts     {SAID}" in dry_run(validate(Recipe, Document("recipe", data, {}))).lines()


def test_guesses_are_warned_of_once_per_kind(base: str, tmp_path: Path) -> None:
    odd = [{"prompt": f"Q: {n}\nA:", "chosen": "5", "rejected": "6"} for n in range(3)]
    progress = Silent()
    tf.train(base, rows(tmp_path / "odd.jsonl", odd), run=str(tmp_path / "a"),
             options=RunOptions(progress=progress), **ONE_STEP)  # fmt: skip
    (warning,) = progress.warnings
    assert warning.startswith(
        f"3 prompts, the first at {tmp_path}/odd.jsonl:1: looks like a transcript of no known form"
    )
    assert warning.endswith("→ write prompts as messages, or choose data.chat: text or chat")
    whole = [{"chosen": "The sky is blue.", "rejected": "The sky is green."}]
    tf.train(base, rows(tmp_path / "whole.jsonl", whole), run=str(tmp_path / "b"),
             options=RunOptions(progress=progress), **ONE_STEP)  # fmt: skip
    assert "whole.jsonl: prompts are what both texts begin with" in progress.warnings[1]
    tf.train(base, rows(tmp_path / "again.jsonl", odd), run=str(tmp_path / "c"), data={"chat": "chat"},
             options=RunOptions(progress=progress), **ONE_STEP)  # fmt: skip
    assert len(progress.warnings) == 2


def test_a_function_judges_the_prompt_as_the_row_has_it(base: str, tmp_path: Path) -> None:
    seen: set[tuple[str, str | None]] = set()

    def reward(prompt: str, completion: str, truth: str | None) -> float:
        seen.add((prompt, truth))
        return float(len(completion))

    train: Callable[..., object] = lambda data, run: tf.train(  # noqa: E731
        base, data, run=str(tmp_path / run), objective=tf.RLOO(), sampling={"max_new_tokens": 2},
        algorithm={"kind": "policy_gradient", "reward": reward}, **ONE_STEP,
    )  # fmt: skip
    train(rows(tmp_path / "tasks.jsonl", [{"prompt": p, "answer": " 5"} for p in (QUESTION, HH)]), "run")
    assert seen == {(QUESTION, "5"), (HH, "5")}
    seen.clear()
    train(
        [Request(p, Source("memory", 1)) for p in ("one", "two")], "same"
    )  # rows of one name: what is drawn from is told
    assert {prompt.splitlines()[-2] for prompt, _ in seen} == {"one", "two"}


def test_a_run_goes_on_as_it_began(base: str, tmp_path: Path) -> None:
    pairs, run = rows(tmp_path / "pairs.jsonl", PAIRS), str(tmp_path / "run")
    tf.train(base, pairs, run=run, **ONE_STEP)
    with pytest.raises(CheckpointError, match=r"data.chat"):
        tf.train(base, pairs, run=run, data={"chat": "text"}, **ONE_STEP)


def test_chat_needs_a_template(base: str, tmp_path: Path) -> None:
    bare = model_folder(replace(FAMILIES[0], template=""), tmp_path / "bare")
    with pytest.raises(RecipeError, match=r"data.chat: chat is asked for, and the tokenizer has no chat template"):
        tf.train(bare, rows(tmp_path / "p.jsonl", PAIRS), run=str(tmp_path / "run"), data={"chat": "chat"}, **ONE_STEP)


def test_a_server_gets_turns(tmp_path: Path) -> None:
    server = Stub(lambda body: "5")
    with ExitStack() as stack, Ledger(tmp_path / "ledger.jsonl") as ledger:
        stack.callback(server.close)
        answerer = open_answerer(f"{server.url}#m", stack, RetrySettings())
        answerer.answers([QUESTION, HH], Draw(Sampling(), 1, 0), ledger, Silent())
    asked = sorted((body["messages"] for body in server.requests), key=len)
    assert asked[0] == [{"role": "user", "content": QUESTION}]
    assert [(m["role"], m["content"]) for m in asked[1]] == [
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", QUESTION),
    ]


def test_the_harness_is_told_of_the_template_by_model(base: str, tmp_path: Path) -> None:
    if find_spec("lm_eval") is not None:
        pytest.skip("lm-eval is installed, and would run")
    bare = model_folder(replace(FAMILIES[0], template=""), tmp_path / "bare")
    for style, marked in (("auto", [True, False]), ("text", [False, False])):
        with pytest.raises(RecipeError) as error:
            harness([base, bare], HarnessRequest(("gsm8k",)), style=style)  # type: ignore[arg-type]  # of two
        lines = [line for line in (error.value.remedy or "").splitlines() if "lm_eval --model" in line]
        assert ["--apply_chat_template" in line for line in lines] == marked
    with pytest.raises(RecipeError, match="no chat template"):
        harness([bare], HarnessRequest(("gsm8k",)), style="chat")


def test_the_choice_is_kept_in_the_model(base: str, tmp_path: Path) -> None:
    tf.train(base, rows(tmp_path / "p.jsonl", PAIRS), run=str(tmp_path / "run"), data={"chat": "text"}, **ONE_STEP)
    kept = json.loads((tmp_path / "run" / "model" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert kept["twofold_chat"] == "text"
    assert read_run(tmp_path / "run").environment["prompts"] == "2 as bare text (chat: text)"


def test_a_reward_model_that_reads_prompts_otherwise_is_warned_of(base: str, tmp_path: Path) -> None:
    pairs, tasks = rows(tmp_path / "p.jsonl", PAIRS), rows(tmp_path / "t.jsonl", [{"prompt": "1+1?"}])
    for choice, told in (("text", 1), ("auto", 0)):
        reward, progress = str(tmp_path / f"reward-{choice}"), Silent()
        tf.train(base, pairs, run=reward, objective=tf.BradleyTerry(), data={"chat": choice}, **ONE_STEP)
        tf.train(base, tasks, run=f"{reward}-policy", objective=tf.RLOO(), sampling={"max_new_tokens": 2},
                 algorithm={"kind": "policy_gradient", "reward": f"reward:{reward}"},
                 options=RunOptions(progress=progress), training={"steps": 1, "batch_size": 1})  # fmt: skip
        assert sum("reads text prompts as bare text" in warning for warning in progress.warnings) == told
