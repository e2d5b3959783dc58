from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from twofold.batch import Role
from twofold.data.encode import Spread, encode
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.errors import DataError, ModelError
from twofold.progress import Silent
from twofold.records import Demonstration, Message, Pair, Prompt, Source, Task

Make = Callable[..., Any]
AT = Source("pairs.jsonl", 7)
ASK = (Message("user", "Hi?"),)


def encoder(tokenizer: Any, *stops: str, **settings: Any) -> Encoder:
    ids = frozenset(tokenizer.convert_tokens_to_ids(s) for s in stops or ("</s>",))
    return Encoder(tokenizer, ids, TokenizeSettings(**settings), "text")


def shown(tokenizer: Any, tokens: Any) -> list[str]:
    """Tokens as texts, so that a reader sees the boundaries."""
    return [tokenizer.decode([t]) for t in tokens.tolist()]


def joined(tokenizer: Any, tokens: Any) -> str:
    return "".join(shown(tokenizer, tokens))


def pair(prompt: Prompt, chosen: str, rejected: str) -> Pair:
    return Pair(prompt, chosen, rejected, AT)


def test_plain_text_gets_one_bos_and_one_stop_token(tokenizer: Make) -> None:
    made = tokenizer(leading_bos=True)
    group = encoder(made).group(pair("ab ", "cd", "e"))
    assert shown(made, group.prompt) == ["<s>", "a", "b", " "]
    assert [shown(made, b.tokens) for b in group.branches] == [["c", "d", "</s>"], ["e", "</s>"]]
    assert [b.role for b in group.branches] == [Role.CHOSEN, Role.REJECTED]
    assert (group.name, group.truth, group.prompt.dtype) == ("pairs.jsonl:7", None, torch.int64)


def test_a_bos_written_in_the_prompt_is_not_doubled(tokenizer: Make) -> None:
    made = tokenizer(leading_bos=True)
    group = encoder(made).group(Demonstration("<s>ab", "c", AT))
    assert shown(made, group.prompt) == ["<s>", "a", "b"]
    assert shown(made, group.branches[0].tokens) == ["c", "</s>"]
    assert group.branches[0].role is Role.DEMONSTRATION


def test_no_bos_where_the_tokenizer_adds_none(tokenizer: Make) -> None:
    made = tokenizer()
    assert shown(made, encoder(made).prompt("ab")) == ["a", "b"]


def test_an_eos_written_in_the_completion_is_not_doubled(tokenizer: Make) -> None:
    made = tokenizer()
    assert shown(made, encoder(made).group(Demonstration("a", "b</s>", AT)).branches[0].tokens) == ["b", "</s>"]


def test_a_task_has_no_branches_and_its_answer_as_truth(tokenizer: Make) -> None:
    made = tokenizer()
    group = encoder(made).group(Task("1+1=", "2", AT))
    assert group.branches == ()
    assert group.truth is not None
    assert shown(made, group.truth) == ["2", "</s>"]


def test_an_empty_prompt_is_the_bos(tokenizer: Make) -> None:
    for led in (True, False):
        made = tokenizer(leading_bos=led)
        group = encoder(made).group(Demonstration("", "ab", AT))
        assert shown(made, group.prompt) == ["<s>"]
        assert shown(made, group.branches[0].tokens) == ["a", "b", "</s>"]
        assert encode([Demonstration("", "ab", AT)], encoder(made)).merged == 0


def test_an_empty_prompt_without_a_bos_is_refused_by_name(tokenizer: Make) -> None:
    with pytest.raises(DataError, match=r"pairs.jsonl:7, `prompt`: is empty"):
        encoder(tokenizer(bos_token=None)).group(Demonstration("", "ab", AT))


def test_a_completion_that_would_merge_into_the_prompt_is_tokenized_alone_and_counted(tokenizer: Make) -> None:
    made = tokenizer(merges=(("b", "c"),))
    assert made.tokenize("abc") == ["a", "bc"]
    encoded = encode([pair("ab", "cd", "d")], encoder(made))
    group = encoded.groups[0]
    assert shown(made, group.prompt) == ["a", "b"]
    assert [shown(made, b.tokens) for b in group.branches] == [["c", "d", "</s>"], ["d", "</s>"]]
    assert encoded.merged == 1


def test_a_completion_tokenized_alone_does_not_gain_the_space_of_a_first_word(metaspace: Any) -> None:
    assert metaspace.tokenize("y") == ["▁y"]
    encoded = encode([Demonstration("a: ", "ya", AT)], encoder(metaspace))
    group = encoded.groups[0]
    assert metaspace.convert_ids_to_tokens(group.prompt.tolist()) == ["▁", "a", ":", "▁"]
    assert metaspace.convert_ids_to_tokens(group.branches[0].tokens.tolist()) == ["y", "a", "</s>"]
    assert encoded.merged == 1


def test_a_chat_ends_at_its_stop_token_and_not_at_the_newline_behind_it(tokenizer: Make) -> None:
    made = tokenizer()
    group = encoder(made, "<|im_end|>", "</s>").group(pair(ASK, "Yes.", "No"))
    assert joined(made, group.prompt) == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
    assert [joined(made, b.tokens) for b in group.branches] == ["Yes.<|im_end|>", "No<|im_end|>"]
    assert torch.equal(group.prompt, encoder(made, "<|im_end|>").prompt(ASK))


def test_a_chat_template_without_a_stop_token_gets_one(tokenizer: Make) -> None:
    turns = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    template = turns + "{% if add_generation_prompt %}[assistant]{% endif %}"
    made = tokenizer(template)
    group = encoder(made).group(Demonstration(ASK, "Yes", AT))
    assert (joined(made, group.prompt), joined(made, group.branches[0].tokens)) == ("[user]Hi?[assistant]", "Yes</s>")


def test_a_second_stop_token_of_the_template_is_cut(tokenizer: Make) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% else %}</s>{% endif %}"
    )
    made = tokenizer(template)
    group = encoder(made, "<|im_end|>", "</s>").group(Demonstration(ASK, "Yes", AT))
    assert joined(made, group.branches[0].tokens) == "Yes<|im_end|>"


def test_a_bos_of_the_template_is_not_doubled(tokenizer: Make) -> None:
    made = tokenizer("<s>{% for m in messages %}{{ m.role }}:{{ m.content }}</s>{% endfor %}"
                     "{% if add_generation_prompt %}assistant:{% endif %}", leading_bos=True)  # fmt: skip
    group = encoder(made).group(Demonstration(ASK, "Yes", AT))
    assert joined(made, group.prompt) == "<s>user:Hi?</s>assistant:"
    assert joined(made, group.branches[0].tokens) == "Yes</s>"


def test_a_template_whose_tokens_merge_over_the_boundary_falls_back_to_its_text(tokenizer: Make) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    made = tokenizer(template, merges=(("Ġ", "Y"),))
    encoded = encode([pair(ASK, "Yes", "no")], encoder(made))
    group = encoded.groups[0]
    assert joined(made, group.prompt) == "user: Hi?\nassistant: "
    assert [joined(made, b.tokens) for b in group.branches] == ["Yes\n</s>", "no\n</s>"]
    assert encoded.merged == 1


def test_a_template_that_breaks_the_prefix_is_refused_by_row(tokenizer: Make) -> None:
    template = (
        "{% for m in messages %}{% if loop.last %}>{% endif %}{{ m.role }}:{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(DataError, match=r"pairs.jsonl:7, `chosen`: cannot be separated from the prompt"):
        encoder(tokenizer(template)).group(pair(ASK, "Yes", "No"))


def test_what_a_template_raises_is_named_by_row(tokenizer: Make) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    record = pair((Message("system", "x"), *ASK), "Yes", "No")
    with pytest.raises(DataError, match=r"pairs.jsonl:7, `prompt`: is refused by the chat template: no system turns"):
        encoder(tokenizer(template)).group(record)


def test_a_chat_without_a_template_is_refused(tokenizer: Make) -> None:
    with pytest.raises(DataError, match="no chat template"):
        encoder(tokenizer(None)).group(pair(ASK, "Yes", "No"))


def test_a_stop_token_inside_a_completion_is_refused(tokenizer: Make) -> None:
    made = tokenizer()
    for prompt in ("ab", ASK):
        with pytest.raises(DataError, match=r"`rejected`: holds the stop token <\|im_end\|> inside its text"):
            encoder(made, "<|im_end|>").group(pair(prompt, "Yes", "No<|im_end|>more"))


@pytest.mark.parametrize("text", ["", " \n", "</s>"])
def test_a_row_without_a_token_to_learn_from_is_refused(tokenizer: Make, text: str) -> None:
    with pytest.raises(DataError, match=r"pairs.jsonl:7, `rejected`: .*to learn from"):
        encoder(tokenizer()).group(pair("ab", "Yes", text))


def test_a_tokenizer_without_a_stop_token_is_refused(tokenizer: Make) -> None:
    with pytest.raises(ModelError, match="no stop token"):
        Encoder(tokenizer(), frozenset())


def test_text_leaves_out_the_stop_token(tokenizer: Make) -> None:
    made = encoder(tokenizer(leading_bos=True))
    for text in ("Tea for two , é 語", " a  b\n"):
        assert made.text(made.group(Demonstration("Q", text, AT)).branches[0].tokens) == text
    assert made.text([]) == ""


def rows() -> list[Pair]:
    """Lengths with bos and stop token: 1 + 2 + 3, 1 + 6 + 5, 1 + 1 + 9."""
    texts = [("ab", "cd", "e"), ("abcdef", "ghij", "k"), ("a", "b", "cdefghij")]
    return [Pair(*t, Source("f", row)) for row, t in enumerate(texts, 1)]


def test_rows_that_fit_are_kept_and_measured(tokenizer: Make) -> None:
    encoded = encode(rows(), encoder(tokenizer(leading_bos=True), max_length=12))
    assert (encoded.rows, encoded.num_groups, encoded.dropped) == (3, 3, ())
    assert (encoded.cut_prompt, encoded.cut_completion, encoded.stop_cut, encoded.merged) == (0, 0, 0, 0)
    assert encoded.prompt_tokens == Spread(4.0, 7)
    assert encoded.completion_tokens == Spread((3 + 2 + 5 + 2 + 2 + 9) / 6, 9)


def test_long_rows_are_dropped_and_named(tokenizer: Make) -> None:
    progress = Silent()
    encoded = encode(rows(), encoder(tokenizer(leading_bos=True), max_length=11), progress)
    assert [g.name for g in encoded.groups] == ["f:1", "f:3"]
    assert encoded.dropped == ("f:2",)
    assert encoded.counts()["dropped"] == ("f:2",)
    assert progress.warnings == ["1 of 3 rows dropped: longer than 11 tokens (f:2)"]


def test_long_rows_are_refused_by_name(tokenizer: Make) -> None:
    made = encoder(tokenizer(leading_bos=True), max_length=11, truncation="refuse")
    with pytest.raises(DataError, match="f:2: has 12 tokens, max_length is 11"):
        encode(rows(), made)
    with pytest.raises(DataError, match="f:2: has 12 tokens"):
        made.group(rows()[1])


def test_a_prompt_is_cut_from_the_left_behind_its_bos(tokenizer: Make) -> None:
    made = tokenizer(leading_bos=True)
    progress = Silent()
    encoded = encode(rows(), encoder(made, max_length=10, truncation="cut_prompt"), progress)
    assert shown(made, encoded.groups[1].prompt) == ["<s>", "c", "d", "e", "f"]
    assert [joined(made, b.tokens) for b in encoded.groups[1].branches] == ["ghij</s>", "k</s>"]
    assert (encoded.cut_prompt, encoded.cut_completion, encoded.stop_cut) == (1, 0, 0)
    assert encoded.dropped == ("f:3",), "a bos alone is no prompt"
    assert progress.warnings[1] == "1 of 3 prompts cut from the left to fit 10 tokens"


def test_a_prompt_without_bos_is_cut_from_the_left(tokenizer: Make) -> None:
    made = tokenizer()
    group = encoder(made, max_length=7, truncation="cut_prompt").group(rows()[1])
    assert shown(made, group.prompt) == ["e", "f"]


def test_a_cut_completion_loses_its_stop_token_and_is_counted(tokenizer: Make) -> None:
    made = tokenizer(leading_bos=True)
    encoded = encode(rows(), encoder(made, max_length=7, truncation="cut_completion"))
    assert encoded.dropped == ("f:2",), "a prompt that fills max_length leaves nothing to learn from"
    assert [joined(made, b.tokens) for b in encoded.groups[1].branches] == ["b</s>", "cdefg"]
    assert (encoded.cut_completion, encoded.stop_cut, encoded.cut_prompt) == (1, 1, 0)


def test_the_truth_of_a_task_is_cut_and_counted(tokenizer: Make) -> None:
    made = tokenizer()
    encoded = encode([Task("ab", "cdef", AT)], encoder(made, max_length=5, truncation="cut_completion"))
    truth = encoded.groups[0].truth
    assert truth is not None
    assert (joined(made, truth), encoded.stop_cut) == ("cde", 1)


def test_no_row_left_is_an_error(tokenizer: Make) -> None:
    with pytest.raises(DataError, match="no row is left of 3"):
        encode(rows(), encoder(tokenizer(), max_length=2))


def test_a_max_length_below_two_is_refused() -> None:
    with pytest.raises(ValueError, match="max_length"):
        TokenizeSettings(max_length=1)
