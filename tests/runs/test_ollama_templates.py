"""A chat template for Ollama writes what the tokenizer's own writes, or is refused by name."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from twofold.errors import ModelError
from twofold.records import Message
from twofold.runs.ollama import Turns, modelfile, turns_of

CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] | trim }}"
    "{{ '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% set first = '' %}{% set rest = messages %}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}{% endif %}{% for m in rest %}"
    "{{ '<turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' }}{{ first if loop.first else '' }}"
    "{{ m['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
LAST = GEMMA.replace("loop.first", "loop.last")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + GEMMA


def tokenizer(template: str | None, *, puts_bos: bool = True) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "<|im_end|>": 2}, unk_token="<unk>"))
    if puts_bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="<|im_end|>", unk_token="<unk>")
    made.chat_template = template
    return made


def test_a_modelfile_by_value() -> None:
    assert modelfile(tokenizer(CHATML), "m.gguf", ["<|im_end|>", "<s>"]) == (
        "FROM ./m.gguf\n"
        'TEMPLATE """{{- if .System }}{{ "<|im_start|>system\\n" }}{{ .System }}{{ "<|im_end|>\\n" }}'
        '{{ else }}{{ "<|im_start|>system\\nBe kind.<|im_end|>\\n" }}{{ end }}\n'
        "{{- range $i, $message := .Messages }}\n"
        '{{- if eq $message.Role "user" }}{{ "<|im_start|>user\\n" }}{{ $message.Content }}'
        '{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}\n'
        '{{- else if eq $message.Role "assistant" }}{{ $message.Content }}{{ "<|im_end|>\\n" }}\n'
        "{{- end }}\n"
        '{{- end }}"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<s>"\n'
    )


def test_the_runtime_puts_the_first_token_where_the_tokenizer_does() -> None:
    expected = Turns(
        opening="",
        system=("<|start|>system<|end|>\n\n", "<|im_end|>"),
        merged=False,
        user=("<|start|>user<|end|>\n\n", "<|im_end|><|start|>assistant<|end|>\n\n"),
        after_answer="<|im_end|>",
    )
    assert turns_of(tokenizer(LLAMA)) == expected
    assert turns_of(tokenizer(LLAMA, puts_bos=False)).opening == "<s>"


def test_a_system_message_inside_the_first_user_message() -> None:
    turns = turns_of(tokenizer(GEMMA))
    chat = [Message("system", "S"), Message("user", "A"), Message("assistant", "B"), Message("user", "C")]
    assert turns.render(chat) == (
        "<turn>user\nS\n\nA<|im_end|>\n<turn>model\nB<|im_end|>\n<turn>user\nC<|im_end|>\n<turn>model\n"
    )
    assert '{{ if not (and $.System (eq $i 1)) }}{{ "<turn>user\\n" }}{{ end }}' in turns.template()


def test_a_template_without_system_messages_refuses_them_there_too() -> None:
    turns = turns_of(tokenizer(NO_SYSTEM))
    assert turns.system is None
    assert turns.template().startswith(
        '{{- if .System }}{{ index "this model takes no system message" 999 }}{{ else }}'
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "the tokenizer has none"),
        ("{{ strftime_now('%d') }}" + CHATML, "today's date"),
        (LAST, "a chat of system, user, assistant, user otherwise"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "does not write the message of the user once"),
        (CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}"), "unlike one"),
    ],
)
def test_what_cannot_be_carried_over_is_refused(template: str | None, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        turns_of(tokenizer(template))
