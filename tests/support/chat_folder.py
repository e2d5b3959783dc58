"""A tiny language model and a reward model on bytes, with a chat template that shows tools, calls and reasoning; and
rows whose completions are more than one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from support import tiny
from support.tool_templates import ASK, QWEN3, WEATHER, calls, result, said

STOP = "<|im_end|>"


def saved(folder: Path, *, scores: bool = False) -> Path:
    """A model of 20k parameters in float32, with a trained score head if it `scores`."""
    special = ["<|im_start|>", STOP]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*alphabet, *special])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=STOP, pad_token=STOP, unk_token=STOP, chat_template=QWEN3
    )
    made.save_pretrained(folder)
    sizes = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 2048, "bos_token_id": None, "num_labels": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=258, eos_token_id=257, pad_token_id=257, **sizes)
    tiny.sharp((Qwen2ForSequenceClassification if scores else Qwen2ForCausalLM)(config)).save_pretrained(folder)
    return folder


OSLO = {"role": "user", "content": "Is it warm in Oslo?"}
TURN_ROWS: list[dict[str, Any]] = [
    {"prompt": [ASK], "tools": [WEATHER], "answer": "#### 1",
     "chosen": [calls("weather", {"city": "Rome"})], "rejected": [calls("weather", {"city": "Oslo"})]},
    {"prompt": [{**ASK, "content": "Is it hot?"}], "answer": "#### 1",
     "chosen": [said("Yes #### 1", reasoning_content="It is summer.")],
     "rejected": [said("No #### 2", reasoning_content="It is winter.")]},
    {"prompt": [{**ASK, "content": "How warm is Rome?"}], "tools": [WEATHER], "answer": "#### 31",
     "chosen": [calls("weather", {"city": "Rome"}), result("31 C"), said("#### 31")],
     "rejected": [calls("weather", {"city": "Oslo"}), result("4 C"), said("It is #### 4")]},
    {"prompt": [{**ASK, "content": "Rome?"}], "answer": "#### 31",
     "chosen": [said("Hm.", weight=0), OSLO, said("#### 31", weight=1)],
     "rejected": [said("Well.", weight=0), OSLO, said("It is #### 4", weight=1)]},
]  # fmt: skip
"""A call, reasoning, a trajectory, and turns with weights."""
