"""A prompt as its model reads it, in turns: roles, texts, and what is markup, of each family of templates."""

from __future__ import annotations

import pytest

from twofold.reports.chats import Turn, turns

TALK = [("system", "Brief."), ("user", "Hi <b>you</b>?\nGo"), ("assistant", "Yes.")]
FAMILIES = {
    "chatml": "<|im_start|>system\nBrief.<|im_end|>\n<|im_start|>user\nHi <b>you</b>?\nGo<|im_end|>\n"
    "<|im_start|>assistant\nYes.<|im_end|>\n",
    "phi-4": "<|im_start|>system<|im_sep|>Brief.<|im_end|><|im_start|>user<|im_sep|>Hi <b>you</b>?\nGo<|im_end|>"
    "<|im_start|>assistant<|im_sep|>Yes.<|im_end|>",
    "llama-3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBrief.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nHi <b>you</b>?\nGo<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nYes.<|eot_id|>",
    "llama-4": "<|begin_of_text|><|header_start|>system<|header_end|>\n\nBrief.<|eot|><|header_start|>user"
    "<|header_end|>\n\nHi <b>you</b>?\nGo<|eot|><|header_start|>assistant<|header_end|>\n\nYes.<|eot|>",
    "gemma": "<bos><start_of_turn>system\nBrief.<end_of_turn>\n<start_of_turn>user\nHi <b>you</b>?\nGo<end_of_turn>\n"
    "<start_of_turn>model\nYes.<end_of_turn>\n",
    "phi-3": "<|system|>\nBrief.<|end|>\n<|user|>\nHi <b>you</b>?\nGo<|end|>\n<|assistant|>\nYes.<|end|>\n",
    "zephyr": "<|system|>\nBrief.</s>\n<|user|>\nHi <b>you</b>?\nGo</s>\n<|assistant|>\nYes.</s>\n",
    "llama-2": "<s>[INST] <<SYS>>\nBrief.\n<</SYS>>\n\nHi <b>you</b>?\nGo [/INST] Yes.</s>",
    "mistral": "<s>[SYSTEM_PROMPT]Brief.[/SYSTEM_PROMPT][INST]Hi <b>you</b>?\nGo[/INST]Yes.</s>",
    "deepseek": "<｜begin▁of▁sentence｜><｜System｜>Brief.<｜User｜>Hi <b>you</b>?\nGo<｜Assistant｜>Yes."
    "<｜end▁of▁sentence｜>",
    "granite": "<|start_of_role|>system<|end_of_role|>Brief.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>"
    "Hi <b>you</b>?\nGo<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>Yes.<|end_of_text|>\n",
    "gpt-oss": "<|start|>system<|message|>Brief.<|end|><|start|>user<|message|>Hi <b>you</b>?\nGo<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
    "command-r": "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Brief."
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi <b>you</b>?\nGo<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Yes.<|END_OF_TURN_TOKEN|>",
    "rows": "system: Brief.\nuser: Hi <b>you</b>?\nGo\nassistant: Yes.",
    "hh": "\n\nSystem: Brief.\n\nHuman: Hi <b>you</b>?\nGo\n\nAssistant: Yes.",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_chat_is_its_turns(family: str) -> None:
    found = turns(FAMILIES[family])
    texts = [(turn.role, "".join(t for t, markup in turn.pieces if not markup).strip()) for turn in found]
    assert [told for told in texts if told != ("", "")] == TALK
    assert "".join(text for turn in found for text, _ in turn.pieces) == FAMILIES[family]


def test_the_head_that_asks_for_an_answer_is_markup() -> None:
    *_, last = turns("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert last == Turn("assistant", (("<|im_start|>assistant\n", True),))
    assert last.is_markup


@pytest.mark.parametrize(
    "text", ["", "What is 2 < 3 | 4 > 1?", "A user: is one who uses.", "x\nuser: y", "<script>a</script>"]
)
def test_what_is_no_chat_is_one_text(text: str) -> None:
    assert turns(text) == (Turn("", ((text, False),)),)


def test_white_space_at_the_end_of_a_turn_is_markup() -> None:
    assert turns("user: Hi \nassistant:") == (
        Turn("user", (("user: ", True), ("Hi", False), (" \n", True))), Turn("assistant", (("assistant:", True),)),
    )  # fmt: skip
    head, end = ("<|im_start|>user\n", True), ("<|im_end|>\n", True)
    assert turns("<|im_start|>user\nHi <|im_end|>\n\n") == (Turn("user", (head, ("Hi ", False), end, ("\n", True))),)
    assert not turns("user: Hi ")[0].is_markup
