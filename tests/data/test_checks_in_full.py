"""Each fault that a check finds in rows that can be read, and each that an encoder finds, in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.data.issues import Issue
from twofold.data.looks import Further
from twofold.data.settings import DataBeside, DataSettings, DataSource, DataSplit
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Demonstration, Message, Pair, Record, Source

Write = Callable[..., str]
AT = Source("f", 4)
PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"
ASK = (Message("user", "q"),)


def issues(path: str, **how: Any) -> list[tuple[Any, ...]]:
    """Row, field, reason, remedy, severity and kind of each; the file is the one that was checked."""
    faults = check(path, **how).faults
    assert all(fault.file == path for fault in faults)
    return [(f.row, f.field, f.reason, f.remedy, f.severity, f.check) for f in faults]


def encoder(made: Any, **settings: Any) -> Encoder:
    return Encoder(made, frozenset({made.eos_token_id}), TokenizeSettings(**settings))


CASES: list[tuple[list[Any], list[tuple[Any, ...]]]] = [
    ([{**PAIR, "chosen": "c "}],
     [(1, "rejected", "is the same as `chosen`", "remove the row", "error", "chosen = rejected")]),
    ([{"prompt": "a", "completions": ["x", "y", "x"]}],
     [(1, "completions[3]", "is the same as `completions[1]`", "remove one of them", "error", "same rank")]),
    ([{**PAIR, "chosen": "ab\x07"}],
     [(1, "chosen", "holds the control character U+0007 at position 3", "clean the text", "warning",
       "control character")]),
    ([{**PAIR, "chosen": "ab<|im_end|>"}],
     [(1, "chosen", "holds the turn markup '<|im_end|>' at position 3",
       "cut the completion there: the chat template marks the turns", "warning", "turn markup")]),
    ([PAIR, PAIR], [(2, "", "repeats row 1", "remove the row", "warning", "duplicate")]),
    ([PAIR, {**PAIR, "chosen": "c", "rejected": "b"}],
     [(n, "", f"prefers what row {3 - n} rejects", "keep the row that is right", "error", "contradiction")
      for n in (1, 2)]),
    ([{**PAIR, "prompt": "\n"}],
     [(1, "prompt", "is empty or white space", "fill it or remove the row", "warning", "empty prompt")]),
    ([{**PAIR, "weight": 0}],
     [(0, "weight", "is 0 in every row: nothing counts",
       "write the weights again, or drop them: data.ignore=[weight] (--ignore weight)", "error", "no weight")]),
    ([], [(0, "", "has no rows", "check the file and the split", "error", "no rows")]),
    ([{**PAIR, "prompt": str(n), "chosen": "bb"} for n in range(100)],
     [(0, "", "the longer answer is chosen in 100.0% of 100 pairs [96.3%, 100.0%]: longer answers are preferred",
       "balance the lengths, or choose an objective that counts per token (simpo, ln_dpo, ld_dpo)", "warning",
       "length bias")]),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_each_fault_of_rows_that_can_be_read(write: Write, rows: list[Any], expected: list[tuple[Any, ...]]) -> None:
    assert issues(write("rows.jsonl", *rows, end="\n" if rows else "")) == expected


def test_each_fault_of_two_sources(write: Write) -> None:
    path, test = write("rows.jsonl", PAIR), write("test.jsonl", {"prompt": "a", "answer": "1"})
    assert issues(path, against=test) == [
        (1, "prompt", f"is also at {test}:1",
         "remove the row here or there: nothing is evaluated on what was trained on", "error", "overlap")
    ]  # fmt: skip
    gone = check(path, against="gone.jsonl").faults
    assert list(gone) == [Issue("gone.jsonl", 0, "", "no such file", "check the path", check="unreadable")]


def test_near_rows_and_near_prompts_are_named_in_full(write: Write) -> None:
    pytest.importorskip("datasketch")
    words = " ".join(f"w{n}" for n in range(40))
    path = write("rows.jsonl", {**PAIR, "prompt": f"{words} x"}, {**PAIR, "prompt": f"{words} y"})
    test = write("test.jsonl", {"prompt": "z", "answer": "1"}, {"prompt": f"{words} z", "answer": "1"})
    faults = [f for f in check(path, against=test, further=Further(near=0.8)).faults if f.check.startswith("near")]
    assert [(f.row, f.field, f.remedy, f.severity, f.check) for f in faults] == [
        (1, "prompt", "remove the row here or there", "warning", "near-overlap"),
        (2, "", "remove one of them", "warning", "near-duplicate"),
        (2, "prompt", "remove the row here or there", "warning", "near-overlap"),
    ]  # fmt: skip
    share = "% of its word triples are the same"
    assert all(f.reason.endswith(share) for f in faults)
    starts = [f.reason.rpartition(" about ")[0] for f in faults]
    assert starts == [f"is nearly that of {test}:2:", "nearly repeats row 1:", f"is nearly that of {test}:2:"]


def test_each_fault_of_a_whole_source_with_an_encoder(write: Write, tokenizer: Any) -> None:
    chats = [{"prompt": [{"role": "user", "content": str(n)}], "completion": "a"} for n in range(2)]
    made = encoder(tokenizer(TURNS.replace("</s>", "\n") + ASKING))
    assert issues(write("rows.jsonl", *chats), encoder=made) == [
        (0, "", "the chat template ends 2 answers (first in row 1) without a stop token; </s> is added",
         "let the template end an assistant turn with </s>, or generation may look different from training", "warning",
         "stop token missing")
    ]  # fmt: skip
    guess = "1 prompt, the first at {}:1: holds [INST], a mark of a chat template, and is put as one user's turn"
    path = write("guess.jsonl", {**PAIR, "prompt": "[INST]"})
    assert issues(path, encoder=encoder(tokenizer(TURNS + ASKING))) == [
        (0, "prompt", guess.format(path), "write prompts as messages, or choose data.chat: text or chat", "warning",
         "guessed prompt")
    ]  # fmt: skip
    shared = write("shared.jsonl", {"chosen": "The sky is blue", "rejected": "The sky is green"})
    assert issues(shared, encoder=encoder(tokenizer(TURNS + ASKING))) == [
        (0, "prompt", "prompts are what both texts begin with, up to a word, and are put as a user's turn",
         "write prompts as messages, or choose data.chat: text or chat", "warning", "guessed prompt")
    ]  # fmt: skip


SEVERAL = (Message("assistant", "a"), Message("user", "b"), Message("assistant", "c"))


@pytest.mark.parametrize(
    ("template", "record", "issue"),
    [
        (None, Demonstration("p", " ", AT), Issue("f", 4, "completion", "is empty or white space: nothing to learn "
         "from", "remove the row", check="no supervised token")),
        (None, Demonstration("p", "</s>", AT), Issue("f", 4, "completion", "leaves no token to learn from",
         "remove the row", check="no supervised token")),
        (None, Demonstration("p", "a</s>b", AT), Issue("f", 4, "completion", "holds the stop token </s> inside its "
         "text", "remove it from the text", check="stop token inside")),
        (None, Demonstration(ASK, "a", AT), Issue("f", 4, "prompt", "is a chat, but the tokenizer has no chat "
         "template", "choose a model with a chat template, or write prompts as text", check="not encodable")),
        (None, Demonstration("p", SEVERAL, AT), Issue("f", 4, "completion", "holds several turns, tool calls or "
         "reasoning, which only a chat template shows", "choose a model with a chat template that reads prompt and "
         "answer as one, and write the prompt as chat", check="not encodable")),
        (TURNS + ASKING, Demonstration((Message("tools", "[]"), *ASK), "a", AT), Issue("f", 4, "tools",
         "are defined, but the chat template does not show any", "choose a model whose template supports tools, or "
         "remove them", check="not encodable")),
        (TURNS + ASKING, Demonstration(ASK, (Message("assistant", "a", '{"name": "n"}'),), AT), Issue("f", 4,
         "completion", "turn 1 after the prompt: the chat template does not show its key `name`", "drop it by "
         "data.ignore=[name] (--ignore name), or choose a model whose template shows it", check="hidden key")),
        (TURNS + ASKING, Demonstration((Message("user", "q", '{"name": "n"}'),), "a", AT), Issue("f", 4, "prompt",
         "message 1: the chat template does not show its key `name`", "drop it by data.ignore=[name] (--ignore name), "
         "or choose a model whose template shows it", check="hidden key")),
        ("{{ raise_exception('no') }}", Demonstration(ASK, "a", AT), Issue("f", 4, "prompt", "is refused by the chat "
         "template: no", "write the turns as the model's template requires", check="not encodable")),
        (TURNS + ASKING, Demonstration(ASK, "a" * 99, AT), Issue("f", 4, "", "has 119 tokens, max_length is 60",
         "raise max_length, or change truncation (now refuse)", check="over-long")),
    ],
)  # fmt: skip
def test_each_fault_of_an_encoder(tokenizer: Any, template: str | None, record: Record, issue: Issue) -> None:
    made = encoder(tokenizer(template), max_length=60, truncation="refuse")
    assert made.inspect(record)[1] == issue
    with pytest.raises(DataError) as error:
        made.group(record)
    assert (error.value.what, error.value.where, error.value.remedy) == (issue.reason, issue.where, issue.remedy)


def test_a_prompt_without_a_token_and_one_that_starts_again_are_named(tokenizer: Any) -> None:
    with pytest.raises(DataError) as error:
        encoder(tokenizer(None, bos_token=None)).prompt("")
    assert (error.value.what, error.value.where, error.value.remedy) == (
        "is empty, and the tokenizer has no bos token to replace it", "prompt, `prompt`", "fill it",
    )  # fmt: skip
    counting = "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}" + TURNS + ASKING
    with pytest.raises(DataError) as error:
        encoder(tokenizer(counting)).group(Pair(ASK, SEVERAL, "b", AT))
    assert (error.value.what, error.value.where, error.value.remedy) == (
        "is rendered from its first token on otherwise with each turn, so that no prompt is shared", "f:4, `prompt`",
        "choose a model with another chat template",
    )  # fmt: skip


@pytest.mark.parametrize("of_one", [DataSource, DataBeside, DataSplit])
def test_one_row_is_a_limit(of_one: Any) -> None:
    assert of_one(file="a", limit=1).limit == DataSettings(train="a", limit=1).limit == 1
    with pytest.raises(ValueError, match=r"^limit must be ≥ 1$"):
        of_one(file="a", limit=0)


@pytest.mark.parametrize(
    ("share", "batch", "rows"), [(0.25, 8, 2), (0.25, 10, 2), (0.3, 5, 2), (0.01, 8, 1), (1.5, 3, 4), (0.125, 4, 1)]
)
def test_rows_next_to_a_batch_are_a_share_of_it(share: float, batch: int, rows: int) -> None:
    """One at least, and rounded to even."""
    assert DataBeside(file="a", share=share).rows_per_step(batch) == rows
