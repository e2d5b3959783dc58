"""Chat templates of twelve families, written anew after what is public of their formats, with what they make of a
question and of a short dialogue, letter by letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

QUESTION = "2+3?"
HH = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: 2+3?\n\nAssistant:"
ANSWER = "5"


@dataclass(frozen=True)
class Family:
    """A template, its special tokens (`eos` ends an answer), and what it makes of QUESTION, HH and ANSWER."""

    name: str
    template: str
    question: str
    dialogue: str
    answer: str
    eos: str
    bos: str | None = None
    more: tuple[str, ...] = ()

    def tokenizer(self) -> Any:
        """A byte-level one with this template."""
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        core.decoder = decoders.ByteLevel()
        core.add_special_tokens([t for t in (self.bos, self.eos, *self.more) if t])
        special = {"eos_token": self.eos, **({"bos_token": self.bos} if self.bos else {})}
        made = PreTrainedTokenizerFast(tokenizer_object=core, **special)
        made.chat_template = self.template
        return made


def _chatml(system: str) -> str:
    return (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + system + "<|im_end|>\n{% endif %}"
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def _im(system: str, *turns: str) -> str:
    roles = ("user", "assistant", "user")
    said = "".join(f"<|im_start|>{role}\n{turn}<|im_end|>\n" for role, turn in zip(roles, turns, strict=False))
    return (f"<|im_start|>system\n{system}<|im_end|>\n" if system else "") + said + "<|im_start|>assistant\n"


QWEN, SMOL = "You are Qwen. You are a helpful assistant.", "You are a helpful AI assistant named SmolLM."
QWEN3 = """{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set said = m.content.split('</think>')[-1].lstrip('\n') %}
{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in m.content else '' %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.last %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}
{{- said + '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}"""
ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}" + ALTERNATE +
    "{% if m['role'] == 'user' %}{{ bos_token }}[INST] {% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>"
    "\n\n{% endif %}{{ m['content'].strip() }} [/INST]{% else %} {{ m['content'].strip() }} {{ eos_token }}{% endif %}"
    "{% endfor %}"
)  # fmt: skip
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}" + ALTERNATE +
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)  # fmt: skip
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}" + ALTERNATE + "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)  # fmt: skip
PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
POLITE = "A chat between a curious user and an artificial intelligence assistant."
VICUNA = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% else %}" + POLITE + "{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %} USER: {{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %} ASSISTANT: {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<｜Assistant｜>{{ m['content'].split('</think>')[-1] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)  # fmt: skip
TULU = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>\n{{ m['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}{% else %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
IM = ("<|im_start|>",)
_HEAD, _EOT = "<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"
_USER, _ASSISTANT = _HEAD.format("user"), _HEAD.format("assistant")

FAMILIES = (
    Family("qwen2.5", _chatml(QWEN), _im(QWEN, "2+3?"), _im(QWEN, "Hi", "Hello!", "2+3?"), "5<|im_end|>", "<|im_end|>",
           more=IM),
    Family("qwen3", QWEN3, _im("", "2+3?"), _im("", "Hi", "Hello!", "2+3?"), "<think>\n\n</think>\n\n5<|im_end|>",
           "<|im_end|>", more=IM),
    Family("llama-2", LLAMA2, "<s>[INST] 2+3? [/INST]", "<s>[INST] Hi [/INST] Hello! </s><s>[INST] 2+3? [/INST]",
           " 5 </s>", "</s>", "<s>"),
    Family("llama-3", LLAMA3, f"<|begin_of_text|>{_USER}2+3?{_EOT}{_ASSISTANT}",
           f"<|begin_of_text|>{_USER}Hi{_EOT}{_ASSISTANT}Hello!{_EOT}{_USER}2+3?{_EOT}{_ASSISTANT}", f"5{_EOT}", _EOT,
           "<|begin_of_text|>", ("<|start_header_id|>", "<|end_header_id|>")),
    Family("mistral", MISTRAL, "<s>[INST] 2+3? [/INST]", "<s>[INST] Hi [/INST] Hello!</s>[INST] 2+3? [/INST]", " 5</s>",
           "</s>", "<s>"),
    Family("gemma", GEMMA, "<bos><start_of_turn>user\n2+3?<end_of_turn>\n<start_of_turn>model\n",
           "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
           "<start_of_turn>user\n2+3?<end_of_turn>\n<start_of_turn>model\n", "5<end_of_turn>", "<end_of_turn>", "<bos>",
           ("<start_of_turn>",)),
    Family("phi-3", PHI3, "<|user|>\n2+3?<|end|>\n<|assistant|>\n",
           "<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n<|user|>\n2+3?<|end|>\n<|assistant|>\n", "5<|end|>",
           "<|end|>", more=("<|user|>", "<|assistant|>")),
    Family("zephyr", ZEPHYR, "<|user|>\n2+3?</s>\n<|assistant|>\n",
           "<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n<|user|>\n2+3?</s>\n<|assistant|>\n", "5</s>", "</s>", "<s>"),
    Family("smollm2", _chatml(SMOL), _im(SMOL, "2+3?"), _im(SMOL, "Hi", "Hello!", "2+3?"), "5<|im_end|>", "<|im_end|>",
           more=IM),
    Family("vicuna", VICUNA, f"{POLITE} USER: 2+3? ASSISTANT:",
           f"{POLITE} USER: Hi ASSISTANT: Hello!</s> USER: 2+3? ASSISTANT:", " 5</s>", "</s>", "<s>"),
    Family("deepseek-r1", R1, "<bos><｜User｜>2+3?<｜Assistant｜><think>\n",
           "<bos><｜User｜>Hi<｜Assistant｜>Hello!<eos><｜User｜>2+3?<｜Assistant｜><think>\n", "\n</think>\n\n5<eos>",
           "<eos>", "<bos>", ("<｜User｜>", "<｜Assistant｜>")),
    Family("tulu", TULU, "<|user|>\n2+3?\n<|assistant|>\n",
           "<|user|>\nHi\n<|assistant|>\nHello!<|endoftext|>\n<|user|>\n2+3?\n<|assistant|>\n", "5<|endoftext|>",
           "<|endoftext|>"),
)  # fmt: skip
