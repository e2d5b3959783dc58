"""What an encoder makes of a row, down to each count: tokens, cuts, merges, stop tokens, forms and guesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from twofold.batch import Group, Role
from twofold.data.chat import Chat
from twofold.data.tokenize import EncodedRow, Encoder, TokenizeSettings, completions
from twofold.data.turns import ChatChoice
from twofold.errors import DataError, ModelError
from twofold.records import Demonstration, Labelled, Message, Pair, Ranking, Record, Request, Source, Task

Make = Callable[..., Any]
AT = Source("f", 4)
ASK = (Message("user", "q"),)
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"


class Slow:
    """A tokenizer of Python's own, without the backend of the fast ones."""

    def __init__(self, made: Any) -> None:
        self._made, self.calls = made, list[Any]()

    def __getattr__(self, name: str) -> Any:
        if name == "backend_tokenizer":
            raise AttributeError(name)
        return getattr(self._made, name)

    def __call__(self, texts: Any, **how: Any) -> Any:
        self.calls.append(texts)
        return self._made(texts, **how)


def encoder(made: Any, *stops: str, chat: ChatChoice = "auto", **settings: Any) -> Encoder:
    ids = frozenset(made.convert_tokens_to_ids(s) for s in stops or ("</s>",))
    return Encoder(made, ids, TokenizeSettings(**settings), chat)


def texts(of: Encoder, group: Group | None) -> list[str]:
    """The prompt and all completions, special tokens included."""
    assert group is not None
    return [of.decode(ids.tolist()) for ids in (group.prompt, *completions(group))]


def bare(row: EncodedRow) -> EncodedRow:
    """All but the group."""
    return replace(row, group=None)


def test_a_row_that_fits_is_as_it_was(tokenizer: Make) -> None:
    made = encoder(tokenizer(None))
    fitted = made.fit(Pair("ab", "cd", "e", AT))
    assert texts(made, fitted.group) == ["ab", "cd</s>", "e</s>"]
    assert bare(fitted) == EncodedRow(
        None, 5, merged=0, unstopped=0, cut_prompt=False, stop_cut=0, form="text", guess=""
    )
    assert EncodedRow(None, 5) == bare(fitted)
    assert made.fit(Request("ab", AT)).tokens == 2
    assert made.settings == Encoder(tokenizer(None), frozenset({1})).settings == TokenizeSettings()


@pytest.mark.parametrize(
    ("length", "truncation", "group", "row"),
    [
        (8, "drop", ["abcd", "ef</s>", "g</s>"], EncodedRow(None, 7)),
        (7, "drop", ["abcd", "ef</s>", "g</s>"], EncodedRow(None, 7)),
        (6, "drop", None, EncodedRow(None, 7)),
        (6, "refuse", None, EncodedRow(None, 7)),
        (6, "cut_prompt", ["bcd", "ef</s>", "g</s>"], EncodedRow(None, 7, cut_prompt=True)),
        (4, "cut_prompt", ["d", "ef</s>", "g</s>"], EncodedRow(None, 7, cut_prompt=True)),
        (3, "cut_prompt", None, EncodedRow(None, 7, cut_prompt=True)),
        (2, "cut_prompt", None, EncodedRow(None, 7, cut_prompt=True)),
        (6, "cut_completion", ["abcd", "ef", "g</s>"], EncodedRow(None, 7, stop_cut=1)),
        (5, "cut_completion", ["abcd", "e", "g"], EncodedRow(None, 7, stop_cut=2)),
        (4, "cut_completion", None, EncodedRow(None, 7)),
        (3, "cut_completion", None, EncodedRow(None, 7)),
    ],
)
def test_a_row_that_does_not_fit_is_left_out_or_cut(
    tokenizer: Make, length: int, truncation: Any, group: list[str] | None, row: EncodedRow
) -> None:
    made = encoder(tokenizer(None), max_length=length, truncation=truncation)
    record = Pair("abcd", "ef", "g", AT)
    fitted, fault = made.inspect(record)
    assert fitted is not None
    assert bare(fitted) == row
    assert (None if fitted.group is None else texts(made, fitted.group)) == group
    assert (fault is None) == (length >= 7)
    if fault is not None:
        assert (fault.file, fault.row, fault.field, fault.check) == ("f", 4, "", "over-long")
        assert fault.reason == f"has 7 tokens, max_length is {length}"
        assert fault.remedy == f"raise max_length, or change truncation (now {truncation})"
        assert fault.severity == ("error" if truncation == "refuse" else "warning")
    if group is None:
        with pytest.raises(DataError, match=f"f:4: has 7 tokens, max_length is {length}"):
            made.group(record)
    else:
        assert texts(made, made.group(record)) == group


@pytest.mark.parametrize(("length", "kept"), [(6, "<s>cd"), (5, "<s>d"), (4, None), (3, None)])
def test_a_bos_stays_before_a_prompt_that_is_cut(tokenizer: Make, length: int, kept: str | None) -> None:
    made = encoder(tokenizer(None, leading_bos=True), max_length=length, truncation="cut_prompt")
    fitted = made.fit(Demonstration("abcd", "ef", AT))
    assert (None if fitted.group is None else texts(made, fitted.group)[0]) == kept
    assert made.fit(Demonstration("a", "ef", AT)).tokens == 5


def test_a_truth_is_cut_as_a_branch_is(tokenizer: Make) -> None:
    made = encoder(tokenizer(None), max_length=5, truncation="cut_completion")
    fitted = made.fit(Task("abc", "def", AT))
    assert (texts(made, fitted.group), fitted.stop_cut, fitted.tokens) == (["abc", "de"], 1, 7)
    assert fitted.group is not None
    assert fitted.group.branches == ()


def test_without_its_eos_the_least_stop_token_ends_a_completion(tokenizer: Make) -> None:
    made = tokenizer(None)
    assert texts(encoder(made), encoder(made).group(Demonstration("a", "b", AT)))[1] == "b</s>"
    other = encoder(made, "<|im_end|>", "<|im_start|>")
    assert other.stop == min(made.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|im_start|>"))
    assert texts(other, other.group(Demonstration("a", "b", AT)))[1] == "b<|im_start|>"
    assert texts(other, other.group(Demonstration("a", "b<|im_end|>", AT)))[1] == "b<|im_end|>"
    several = encoder(made, "</s>", "<|im_end|>")
    assert several.stop == made.eos_token_id
    assert several.text([97, *made("b</s><|im_end|></s>")["input_ids"]]).endswith("b")


def test_a_text_without_its_stop_tokens_keeps_its_spaces(tokenizer: Make) -> None:
    made = encoder(tokenizer(None, clean_up_tokenization_spaces=True))
    ids = made.tokenizer("<s>a , b .</s>c</s></s>")["input_ids"]
    assert (made.text(ids), made.decode(ids)) == ("a , b .c", "<s>a , b .</s>c</s></s>")
    assert made.text(made.tokenizer("</s>")["input_ids"]) == ""
    plain = encoder(tokenizer(None), "x")  # a letter that ends a text is no special token
    assert [plain.text(plain.tokenizer(t)["input_ids"]) for t in ("abxx", "xab", "x")] == ["ab", "xab", ""]


@pytest.mark.parametrize(
    ("template", "stops", "whole", "unstopped"),
    [
        (TURNS + ASKING, ("</s>",), "a</s>", 0),
        (TURNS.replace("</s>", "\n") + ASKING, ("</s>",), "a\n</s>", 1),
        (TURNS.replace("</s>", "</s>\n \n") + ASKING, ("</s>",), "a</s>", 0),
        (TURNS.replace("</s>", "<|im_end|></s>") + ASKING, ("</s>", "<|im_end|>"), "a<|im_end|>", 0),
    ],
)
def test_a_template_ends_an_answer_or_a_stop_token_is_added(
    tokenizer: Make, template: str, stops: tuple[str, ...], whole: str, unstopped: int
) -> None:
    made = encoder(tokenizer(template), *stops)
    fitted = made.fit(Pair(ASK, "a", "a", AT))
    assert (texts(made, fitted.group)[1:], fitted.unstopped) == ([whole] * 2, 2 * unstopped)
    assert (fitted.form, fitted.merged) == ("chat", 0)
    assert made.fit(Demonstration("", "b", AT)).unstopped == 0


def test_a_stop_token_inside_an_answer_is_refused_and_one_before_white_space_is_not(tokenizer: Make) -> None:
    made = encoder(tokenizer(None))
    with pytest.raises(DataError) as error:
        made.group(Pair("p", "a", "b</s> c", AT))
    assert (error.value.what, error.value.where) == ("holds the stop token </s> inside its text", "f:4, `rejected`")
    assert texts(made, made.group(Pair("p", "a", "b</s> \n", AT)))[2] == "b</s>"


@pytest.mark.parametrize(
    ("prompt", "text", "field", "reason", "check"),
    [
        ("p", " ", "completion", "is empty or white space: nothing to learn from", "no supervised token"),
        ("p", "</s>", "completion", "leaves no token to learn from", "no supervised token"),
        (ASK, "a", "prompt", "is a chat, but the tokenizer has no chat template", "not encodable"),
    ],
)
def test_what_cannot_be_learnt_is_a_fault(
    tokenizer: Make, prompt: str | Chat, text: str, field: str, reason: str, check: str
) -> None:
    made, record = encoder(tokenizer(None)), Demonstration(prompt, text, AT)
    fitted, fault = made.inspect(record)
    assert fitted is None
    assert fault is not None
    assert (fault.row, fault.field, fault.reason, fault.check, fault.severity) == (4, field, reason, check, "error")
    assert fault.remedy


def test_a_chat_of_tools_needs_a_template_that_shows_them(tokenizer: Make) -> None:
    tools = Message("tools", "[]")
    with pytest.raises(DataError, match="`tools`: are defined, but the chat template does not show any"):
        encoder(tokenizer(TURNS + ASKING)).prompt((tools, *ASK))
    made = encoder(tokenizer("{{ tools | length if tools else 'no tools' }}" + TURNS + ASKING))
    assert made.decode(made.prompt((tools, *ASK)).tolist()) == "no tools[user]q</s>[assistant]"
    assert made.decode(made.prompt(ASK).tolist()) == "no tools[user]q</s>[assistant]"
    with pytest.raises(DataError, match="is refused by the chat template"):
        encoder(tokenizer(TURNS)).prompt(())


RECORDS: list[Record] = [
    Pair("p ", "a", "b", AT), Pair(ASK, "a", "b c", AT), Demonstration("", "x", AT), Task("t", "1", AT),
    Ranking("r", ("a", "b", "a"), AT), Labelled("l", "a", True, AT), Request("q", AT), Pair("p", " ", "b", AT),
]  # fmt: skip


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("chat", ["auto", "text"])
def test_texts_tokenized_ahead_are_asked_for_once(tokenizer: Make, slow: bool, chat: ChatChoice) -> None:
    """All that the rows need is in one call, and fitting them asks for nothing more; another call forgets it."""
    held = Slow(tokenizer(TURNS + ASKING, leading_bos=True, model_max_length=3))
    made = encoder(held if slow else held._made, chat=chat)
    alone = encoder(tokenizer(TURNS + ASKING, leading_bos=True), chat=chat)
    held.calls.clear()
    made.ahead(RECORDS)
    assert [isinstance(call, list) for call in held.calls] == ([True] if slow else [])
    known = dict(made._token_texts._ahead)
    assert known
    for record in RECORDS[:-1]:
        ours, theirs = made.group(record), alone.group(record)
        assert texts(made, ours) == texts(alone, theirs)
        assert [b.role for b in ours.branches] == [b.role for b in theirs.branches]
    assert len(held.calls) == slow
    assert all(made.tokenizer.decode(ids) == text for text, ids in known.items())
    assert not held._made.deprecation_warnings, "no word of the length that the tokenizer thinks best"
    made.ahead([])
    assert made._token_texts._ahead == {}


def test_a_template_that_dislikes_a_row_says_so_when_the_row_is_fitted(tokenizer: Make) -> None:
    made = encoder(tokenizer("{{ raise_exception('never\nthat') }}"))
    made.ahead([Demonstration(ASK, "a", AT)])
    with pytest.raises(DataError) as error:
        made.group(Demonstration(ASK, "a", AT))
    assert error.value.what == "is refused by the chat template: never"
    assert error.value.remedy == "write the turns as the model's template requires"
    encoder(tokenizer(None)).ahead([Demonstration(ASK, "a", AT)])


def test_a_template_that_never_ends_is_no_fault_of_a_row(tokenizer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from twofold.data import chat as chat_module

    monkeypatch.setattr(chat_module, "TEMPLATE_SECONDS", 0.2)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{# of test_encoder #}"
    made = Encoder(tokenizer(endless), frozenset({1}), chat="text")
    for work in (lambda: made.ahead([Demonstration(ASK, "a", AT)]), lambda: made.group(Demonstration(ASK, "a", AT))):
        with pytest.raises(ModelError, match="the chat template: was stopped"):
            work()


RATED = {"margin": 2.0, "probability": 0.75}


@pytest.mark.parametrize(
    ("record", "roles", "columns"),
    [
        (Pair("p", "a", "b", AT, gold="g"), (Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION), [{}, {}, {}]),
        (Pair("p", "a", "b", AT, 0.75, 2.0, "g"), (Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION),
         [{**RATED, "win_rate": 0.75}, {**RATED, "win_rate": 0.25}, RATED]),
        (Ranking("p", ("a", "b", "c"), AT), (Role.RANKED,) * 3, [{"level": 0.0}, {"level": 1.0}, {"level": 2.0}]),
        (Ranking("p", ("a", "b", "c"), AT, (2.0, 1.0, 1.0), 0.0), (Role.RANKED,) * 3,
         [{"level": 0.0, "score": 2.0, "margin": 0.0}, {"level": 1.0, "score": 1.0, "margin": 0.0},
          {"level": 1.0, "score": 1.0, "margin": 0.0}]),
        (Labelled("p", "a", False, AT), (Role.UNDESIRABLE,), [{}]),
        (Labelled("p", "a", True, AT), (Role.DESIRABLE,), [{}]),
        (Demonstration("p", "a", AT), (Role.DEMONSTRATION,), [{}]),
        (Request("p", AT), (), []),
        (Task("p", "a", AT), (), []),
    ],
)  # fmt: skip
def test_what_a_row_knows_of_its_answers(
    tokenizer: Make, record: Record, roles: tuple[Role, ...], columns: list[dict[str, float]]
) -> None:
    group = encoder(tokenizer(None)).group(record)
    assert tuple(b.role for b in group.branches) == roles
    assert [dict(b.columns) for b in group.branches] == columns
    assert (group.truth is None) == (not isinstance(record, Task))
    assert group.name == "f:4"


def test_a_bos_that_a_prompt_has_is_not_doubled_and_none_is_invented(tokenizer: Make) -> None:
    led, bare_bos, none = (encoder(tokenizer(None, leading_bos=True)), encoder(tokenizer(None)),
                           encoder(tokenizer(None, bos_token=None)))  # fmt: skip
    for made, prompt, want in (
        (led, "a", "<s>a"), (led, "<s>a", "<s>a"), (led, "", "<s>"), (bare_bos, "a", "a"), (bare_bos, "", "<s>"),
        (none, "a", "a"),
    ):  # fmt: skip
        assert made.decode(made.prompt(prompt).tolist()) == want
        assert texts(made, made.group(Demonstration(prompt, "b", AT)))[1] == "b</s>"
    with pytest.raises(DataError) as error:
        none.prompt("")
    assert error.value.what == "is empty, and the tokenizer has no bos token to replace it"
    assert error.value.where == "prompt, `prompt`"


def test_what_merges_over_the_boundary_is_tokenized_on_its_own(tokenizer: Make) -> None:
    made = encoder(tokenizer(None, merges=(("b", "c"),)))
    fitted = made.fit(Pair("ab", "cd", "bd", AT))
    assert (texts(made, fitted.group), fitted.merged) == (["ab", "cd</s>", "bd</s>"], 1)
    chats = encoder(tokenizer(TURNS + "{% if add_generation_prompt %}[assistant]{% endif %}", merges=(("]", "c"),)))
    for said in (ASK, (Message("system", "s"), *ASK)):
        fitted = chats.fit(Pair(said, "cd", "bd", AT))
        before = "[system]s</s>" if len(said) > 1 else ""
        assert texts(chats, fitted.group) == [f"{before}[user]q</s>[assistant]", "cd</s>", "bd</s>"]
        assert fitted.merged == 1


def test_tokens_are_whole_numbers_even_where_there_are_none(tokenizer: Make) -> None:
    made = encoder(tokenizer("{% if messages[-1].role == 'assistant' %}{{ messages[-1].content }}</s>{% endif %}"))
    group = made.group(Demonstration(ASK, "a", AT))
    assert (made.prompt(ASK).dtype, made.prompt(ASK).tolist()) == (torch.int64, [])
    assert (group.prompt.dtype, group.branches[0].tokens.dtype) == (torch.int64, torch.int64)
    assert texts(made, group) == ["", "a</s>"]


def test_a_tokenizer_without_a_stop_token_is_told_what_to_do(tokenizer: Make) -> None:
    with pytest.raises(ModelError) as error:
        Encoder(tokenizer(), frozenset())
    assert str(error.value) == "the tokenizer: has no stop token\n  → set its eos_token"
