"""Model folders that say what a table says: the next word depends on the last one alone, by known probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from support import tiny

STOP = "</s>"
NEVER = -40.0
Next = Mapping[str, float]


def speaker(folder: Path, table: Mapping[str, str | Next], *, words: str = "", chat_template: str | None = None) -> str:
    """A model folder: what follows each word is a word, or several with their probabilities; after any other word it
    stops. The vocabulary is that of the table and of `words`."""
    following = {word: {n: 1.0} if isinstance(n, str) else n for word, n in table.items()}
    known = [STOP, *dict.fromkeys([*following, *(w for n in following.values() for w in n), *words.split()])]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(known))}
    if len(vocabulary) % 2:  # rotary positions want an even width
        vocabulary["…"] = len(vocabulary)
    logp = torch.full((len(vocabulary),) * 2, NEVER, dtype=torch.float64)
    for word, at in vocabulary.items():
        for follower, probability in following.get(word, {STOP: 1.0}).items():
            logp[at, vocabulary[follower]] = torch.tensor(probability, dtype=torch.float64).log()
    core = Tokenizer(WordLevel(vocabulary, unk_token=STOP))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=STOP, pad_token=STOP, unk_token=STOP)
    if chat_template:
        tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    tiny.chain(logp).save_pretrained(folder)
    return str(folder)
