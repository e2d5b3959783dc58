"""Which assistant turns of a dialogue are supervised: the last answer, or each of them.

Every token of a branch is scored, so a branch cannot hold the user's turns between two answers. A dialogue of n answers
is therefore n demonstrations, each after what was said before it. That costs the tokens of shared beginnings again, and
is the more faithful form: templates render a turn otherwise once it lies in the past (reasoning is cut out of it), and
each answer is learnt after the very prompt that the model will see when it has to give it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from twofold.records import Demonstration, Record

LossOn = Literal["last", "all"]


def supervised(record: Record, supervise: LossOn) -> Iterator[Record]:
    """`record`, and under `all` before it one demonstration for each earlier answer of its dialogue.

    Pairs, rankings and labelled completions judge one answer: what was said before it is their prompt in either case.
    """
    if supervise == "all" and isinstance(record, Demonstration) and not isinstance(record.prompt, str):
        asked = False
        for place, message in enumerate(record.prompt):
            if message.role == "assistant" and asked and message.content.strip():
                yield Demonstration(record.prompt[:place], message.content, record.source)
            asked = asked or message.role == "user"
    yield record
