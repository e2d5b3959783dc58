"""Selects the supervised assistant turns of a dialogue: the last one, or each of them.

Every token of a branch is scored, so a branch cannot contain user turns between two completions. A dialogue of n
assistant turns is therefore n demonstrations, each after the turns before it. This repeats the tokens of shared
prefixes, but it is more faithful: templates render past turns differently (reasoning is removed), and each completion
is trained after exactly the prompt that the model will see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from twofold.records import Demonstration, Record

LossOn = Literal["last", "all"]


def supervised(record: Record, supervise: LossOn) -> Iterator[Record]:
    """`record`, and with `all` before it one demonstration for each earlier assistant turn of its dialogue. Pairs,
    rankings and labeled completions judge one completion, so the turns before it are always their prompt.
    """
    if supervise == "all" and isinstance(record, Demonstration) and not isinstance(record.prompt, str):
        asked = False
        for place, message in enumerate(record.prompt):
            if message.role == "assistant" and asked and message.content.strip():
                yield replace(record, prompt=record.prompt[:place], completion=message.content)
            asked = asked or message.role == "user"
    yield record
