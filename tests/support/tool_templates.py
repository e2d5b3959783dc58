"""Chat templates of eight families that show calls of tools or reasoning, written anew after what is public of their
formats; and rows of tool use, as people write them."""

from __future__ import annotations

from typing import Any

from support.chat_templates import Family

HERMES = """{%- if tools %}{{- '<|im_start|>system\\n<tools>' }}{% for t in tools %}
{{- '\\n' + (t | tojson) }}{% endfor %}
{{- '\\n</tools><|im_end|>\\n' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + m.role }}{% if m.content %}{{- '\\n' + m.content }}{% endif %}
{%- for call in m.tool_calls or [] %}{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}{% endfor %}{{- '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
_LAST = """{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set thought = m.reasoning_content or '' %}{{- '<|im_start|>assistant\\n' }}"""
_CALLS = """{{- m.content or '' }}
{%- for call in m.tool_calls or [] %}
{{- '\\n<tool_call>\\n' + (call.function | tojson) + '\\n</tool_call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"""
_TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}"""
QWEN3 = (
    _TOOLS + _LAST + """{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}""" + _CALLS + "{% endif %}"
)  # fmt: skip
QWEN35 = (
    _TOOLS + _LAST + """{%- if loop.index0 > ns.last %}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{% endif %}"""
    + _CALLS + "{{- '<think>\\n' }}{% endif %}"
)  # fmt: skip
NEMOTRON = (
    _TOOLS + _LAST + """{%- if thought and loop.index0 > ns.last %}{{- '<think>\\n' + thought + '\\n</think>\\n' }}
{%- else %}{{- '<think></think>' }}{% endif %}""" + _CALLS + "{{- '<think>\\n' }}{% endif %}"
)  # fmt: skip
LLAMA31 = """{{- bos_token }}{% for t in tools or [] %}{{- (t | tojson) + '\\n' }}{% endfor %}
{%- for m in messages %}
{%- if m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{- raise_exception('one call at a time') }}{% endif %}
{%- set call = m.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
{{- (call.arguments | tojson) + '}<|eot_id|>' }}
{%- else %}{{- '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\\n\\n' }}
{{- m.content | trim }}{{- '<|eot_id|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
MISTRAL = """{{- bos_token }}{% if tools %}
{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '[INST]' + m.content + '[/INST]' }}
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{- raise_exception('ids have nine letters') }}{% endif %}
{{- '[TOOL_RESULTS]' + m.tool_call_id + '[TOOL_CONTENT]' + m.content + '[/TOOL_RESULTS]' }}
{%- elif m.tool_calls %}
{%- for call in m.tool_calls %}{{- '[TOOL_CALLS]' + call.function.name + '[CALL_ID]' + call.id + '[ARGS]' }}
{{- call.function.arguments | tojson }}{% endfor %}{{- eos_token }}
{%- else %}{{- m.content + eos_token }}{% endif %}
{%- endfor %}"""
R1 = """{{- bos_token }}{% set ns = namespace(tool=false) %}
{%- for m in messages %}
{%- if m['role'] == 'user' %}{% set ns.tool = false %}{{- '<｜User｜>' + m['content'] }}
{%- elif m['role'] == 'assistant' %}
{%- for call in m['tool_calls'] or [] %}{% set ns.tool = false %}
{{- '<｜Assistant｜><｜call｜>' + call['function']['name'] + '\\n' + call['function']['arguments'] + eos_token }}
{%- endfor %}
{%- if m['content'] is not none %}
{%- set said = m['content'].split('</think>')[-1] %}
{{- ('' if ns.tool else '<｜Assistant｜>') + said + eos_token }}{% set ns.tool = false %}{% endif %}
{%- else %}{% set ns.tool = true %}{{- '<｜result｜>' + m['content'] + '<｜end｜>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt and not ns.tool %}{{- '<｜Assistant｜><think>\\n' }}{% endif %}"""
HARMONY = """{% for t in tools or [] %}{{- (t | tojson) + '\\n' }}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set past = namespace(found=false) %}
{%- for n in messages[loop.index:] %}{% if n.role == 'user' %}{% set past.found = true %}{% endif %}{% endfor %}
{%- if m.thinking and not past.found %}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}
{%- endif %}
{%- if m.tool_calls %}{{- '<|start|>assistant to=' + m.tool_calls[0].function.name + '<|message|>' }}
{{- (m.tool_calls[0].function.arguments | tojson) + '<|call|>' }}
{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content }}
{{- '<|return|>' if loop.last else '<|end|>' }}
{%- endif %}
{%- else %}{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{% endif %}"""

TOOL_FAMILIES = (
    Family("hermes", HERMES, "", "", "", "<|im_end|>", more=("<|im_start|>",)),
    Family("qwen3-tools", QWEN3, "", "", "", "<|im_end|>", more=("<|im_start|>",)),
    Family("qwen3.5", QWEN35, "", "", "", "<|im_end|>", more=("<|im_start|>",)),
    Family("nemotron", NEMOTRON, "", "", "", "<|im_end|>", more=("<|im_start|>",)),
    Family("llama-3.1", LLAMA31, "", "", "", "<|eot_id|>", "<s>"),
    Family("mistral-tools", MISTRAL, "", "", "", "</s>", "<s>", ("[INST]", "[/INST]")),
    Family("r1-tools", R1, "", "", "", "<eos>", "<s>", ("<｜User｜>", "<｜Assistant｜>")),
    Family("harmony", HARMONY, "", "", "", "<|return|>", more=("<|start|>", "<|end|>", "<|call|>")),
)

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather", "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip
ADD: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ASK = {"role": "user", "content": "Is it warm in Rome?"}
ID = "call12345"


def said(text: str, **more: Any) -> dict[str, Any]:
    """An assistant's turn."""
    return {"role": "assistant", "content": text, **more}


def calls(name: str, arguments: Any, number: str = ID) -> dict[str, Any]:
    """An assistant's turn that is a call alone, as OpenAI writes it."""
    call = {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(text: str, name: str = "weather", number: str = ID) -> dict[str, Any]:
    """A tool's turn."""
    return {"role": "tool", "tool_call_id": number, "name": name, "content": text}


TOOL_ROWS: list[dict[str, Any]] = [
    {"prompt": [ASK], "tools": [WEATHER], "chosen": [calls("weather", {"city": "Rome"})],
     "rejected": [calls("weather", {"city": "Oslo"})]},
    {"prompt": [{"role": "user", "content": "2 + 3?"}, calls("add", {"b": 3, "a": 2}), result("5", "add")],
     "tools": [ADD], "chosen": [said("It is 5.")], "rejected": [said("It is 6.")]},
    {"prompt": [ASK], "tools": [WEATHER, ADD],
     "chosen": [calls("weather", {"city": "Rome"}), result("31 C"), said("Yes: 31 C.")],
     "rejected": [calls("weather", {"city": "Oslo"}), result("4 C"), said("No.")]},
]  # fmt: skip
"""A call as the answer, a call in the prompt, and trajectories."""
WHOLE: dict[str, Any] = {
    "tools": [WEATHER, ADD],
    **{side: [ASK, *TOOL_ROWS[2][side]] for side in ("chosen", "rejected")},
}
"""Whole conversations that part at the first call."""
