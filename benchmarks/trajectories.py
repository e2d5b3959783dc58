"""Tokens that a pack computes for pairs of whole conversations, against rows turn by turn and against a full tree.

    python -m benchmarks.trajectories

Pairs of conversations that part at the first answer, of 1 to 8 rounds of a call, its result, a question and an answer
with reasoning, under a template that only appends and under one that removes earlier reasoning. `rows` computes each
scored turn behind all of its prompt, `pack` is what twofold computes, `tree` shares every common beginning.
"""

from __future__ import annotations

import json
from typing import Any, cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from twofold.batch import Group
from twofold.data.shapes import detect, parse
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.records import Pair, Source

WORDS = ["a", "red", "car", "goes", "over", "the", "long", "bridge", "and", "back", "to", "town", "where", "people"]
_CALLS = (
    "{{ m.content or '' }}{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}</s>"
    "{% else %}{{ m.role }}: {{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
APPENDS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}assistant: "
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}" + _CALLS
)
REMOVES = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'assistant' %}assistant: "
    "{% if m.reasoning_content and loop.index0 > ns.last %}<think>{{ m.reasoning_content }}</think>{% endif %}" + _CALLS
)


def text(seed: int, length: int) -> str:
    """Words, a function of the seed."""
    return " ".join(WORDS[(seed * 7 + i * (1 + seed % 5)) % len(WORDS)] for i in range(length))


def side(rounds: int, seed: int) -> list[dict[str, Any]]:
    """Rounds of a call, its result and an answer, a question between them."""
    turns: list[dict[str, Any]] = []
    for n in range(rounds):
        at = seed + 10 * n
        call = {"type": "function", "function": {"name": "look", "arguments": {"text": text(at, 6)}}}
        turns += [{"role": "user", "content": text(n, 20)}] if n else []
        turns += [
            {"role": "assistant", "content": "", "tool_calls": [call], "reasoning_content": text(at + 1, 40)},
            {"role": "tool", "content": text(at + 2, 60)},
            {"role": "assistant", "content": text(at + 3, 30), "reasoning_content": text(at + 4, 40)},
        ]
    return turns


def encoder(template: str) -> Encoder:
    """Words as tokens, more or less: bytes would only scale all numbers."""
    alphabet = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(["</s>", *(f" {w}" for w in set(WORDS)), "<think>", "</think>"])
    made: Any = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    made.chat_template = template
    return Encoder(made, frozenset({cast("int", made.eos_token_id)}), TokenizeSettings(max_length=10**6))


def costs(group: Group) -> tuple[int, int, int]:
    """Tokens of rows turn by turn, of the pack, and of a tree of all rows."""
    rows, tree = 0, set[int]()
    for branch in group.branches:
        for strand in branch.strands():
            whole = (*group.prompt.tolist(), *strand.tokens[:-1].tolist())
            tree.update(hash(whole[: n + 1]) for n in range(len(whole)))
            places = strand.scored.tolist() if strand.scored is not None else list(range(len(strand.tokens)))
            rows += sum(len(group.prompt) + p for p in places if p + 1 not in places)
    return rows, group.num_tokens, len(tree)


def main() -> None:
    print(f"{'template':>10} {'rounds':>6} {'rows':>7} {'pack':>7} {'tree':>7} {'pack/rows':>10} {'tree/pack':>10}")
    for name, template in (("appends", APPENDS), ("removes", REMOVES)):
        made = encoder(template)
        for rounds in (1, 2, 4, 8):
            row = {"prompt": [{"role": "user", "content": text(9, 30)}],
                   "chosen": side(rounds, 1), "rejected": side(rounds, 2)}  # fmt: skip
            shape = detect(row)
            record = parse(shape, json.loads(json.dumps(row)), Source("row", 1), []) if shape else None
            assert isinstance(record, Pair)
            rows, pack, tree = costs(made.group(record))
            print(f"{name:>10} {rounds:>6} {rows:>7} {pack:>7} {tree:>7} {pack / rows:>10.2f} {tree / pack:>10.2f}")


if __name__ == "__main__":
    main()
