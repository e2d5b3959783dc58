"""Dialogues of several turns: what of them is supervised, through chat templates as models ship them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twofold.batch import Role
from twofold.data.encode import encode
from twofold.data.formats import read
from twofold.data.supervision import LossOn
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.validate import check
from twofold.errors import DataError
from twofold.records import Demonstration, Message, Pair, Request, Source

Make = Callable[..., Any]

# Like the templates of reasoning models: what stands before </think> is cut out of every answer that lies in the past.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not loop.last and '</think>' in m.content %}"
    "{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_TOOLS = "{% if tools %}T{{ tools | length }} {% endif %}{% for m in messages %}{{ m.content }}|{% endfor %}"

DIALOGUE = Demonstration(
    (
        Message("system", "Be brief."),
        Message("user", "1 + 1?"),
        Message("assistant", "one more</think>2"),
        Message("user", "Sure?"),
    ),
    "yes</think>Sure.",
    Source("rows.jsonl", 3),
)
OPENING = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n"


def encoder(made: Any, supervise: LossOn = "last", **settings: Any) -> Encoder:
    stop = made.convert_tokens_to_ids("<|im_end|>")
    return Encoder(made, frozenset({stop}), TokenizeSettings(loss_on=supervise, **settings))


def texts(made: Any, groups: list[Any]) -> list[tuple[str, list[str]]]:
    return [(made.decode(g.prompt), [made.decode(b.tokens) for b in g.branches]) for g in groups]


@pytest.mark.parametrize(("template", "past"), [({}, "one more</think>2"), ({"template": THINKING}, "2")])
def test_every_answer_follows_the_prompt_that_asked_for_it(tokenizer: Make, template: Any, past: str) -> None:
    made = tokenizer(**template)
    second = f"{OPENING}{past}<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n"
    both = encode([DIALOGUE], encoder(made, "all"))
    assert texts(made, both.groups) == [
        (OPENING, ["one more</think>2<|im_end|>"]),
        (second, ["yes</think>Sure.<|im_end|>"]),
    ]
    assert [(g.name, g.branches[0].role) for g in both.groups] == [("rows.jsonl:3", Role.DEMONSTRATION)] * 2
    assert (both.rows, both.num_groups) == (2, 2)
    last = encode([DIALOGUE], encoder(made))
    assert texts(made, last.groups) == [(second, ["yes</think>Sure.<|im_end|>"])]


def test_a_greeting_before_anyone_asked_is_not_supervised(tokenizer: Make) -> None:
    greeted = (Message("assistant", "Hello!"), Message("user", "1 + 1?"))
    encoded = encode([Demonstration(greeted, "2", Source("f", 1))], encoder(tokenizer(), "all"))
    assert len(encoded.groups) == 1


def test_what_judges_one_answer_stays_one_group(tokenizer: Make) -> None:
    pair = Pair(DIALOGUE.prompt, "yes", "no", Source("f", 1))
    one = encode([pair], encoder(tokenizer(), "all")).groups
    assert texts(tokenizer(), one) == texts(tokenizer(), encode([pair], encoder(tokenizer())).groups)


def test_the_check_looks_at_every_supervised_turn(write: Callable[..., str], tokenizer: Make) -> None:
    said = ("a", "b<|im_end|>c", "d", "e")
    roles = ("user", "assistant")
    row = {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]}
    path = write("rows.jsonl", row)
    assert check(path, encoder=encoder(tokenizer())).ok
    (fault,) = check(path, encoder=encoder(tokenizer(), "all")).errors
    assert fault.reason == "holds the stop token <|im_end|> inside its text"


def test_tools_are_shown_by_the_template_or_refused(write: Callable[..., str], tokenizer: Make) -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [{}, {}]}
    (record,) = read(write("rows.jsonl", row)).records
    made = tokenizer(WITH_TOOLS)
    assert made.decode(encoder(made).prompt(record.prompt)) == "T2 a|"
    with pytest.raises(DataError, match="the chat template does not show any") as error:
        encoder(tokenizer()).group(record)
    assert error.value.where.endswith("rows.jsonl:1, `tools`")


def test_a_prompt_alone_is_a_group_without_branches(tokenizer: Make) -> None:
    made = tokenizer()
    group = encoder(made).group(Request(DIALOGUE.prompt[:2], Source("f", 1)))
    assert (made.decode(group.prompt), group.branches, group.truth) == (OPENING, (), None)
