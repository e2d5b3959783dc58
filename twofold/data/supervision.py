"""Selects the supervised assistant turns of a dialogue: the last one, each of them, or those that a row marks.

A demonstrated dialogue of n assistant turns is n demonstrations, each after the turns before it. This repeats the
tokens of shared prefixes, but each completion is trained after exactly the prompt that the model will see: templates
render past turns differently (reasoning is removed).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from twofold.records import Demonstration, Record, completion_of, turns_of

LossOn = Literal["last", "all"]


def supervised(record: Record, supervise: LossOn) -> Iterator[Record]:
    """`record`; of a demonstrated dialogue one demonstration for each assistant turn that its mark (the keys `weight`,
    `loss` and `train` of a message) or, without one, `supervise` chooses. Pairs, rankings and labeled completions judge
    what follows their prompt, so the turns before it are always their prompt.
    """
    if not isinstance(record, Demonstration) or isinstance(record.prompt, str):
        yield record
        return
    asked = False
    for place, message in enumerate(record.prompt):
        wanted = message.scored is True or (message.scored is None and supervise == "all")
        if message.role == "assistant" and asked and wanted and (message.content.strip() or message.more):
            yield replace(record, prompt=record.prompt[:place], completion=completion_of((message,)))
        asked = asked or message.role == "user"
    last = turns_of(record.completion)
    if any(turn.scored is not False for turn in last if turn.role == "assistant"):
        yield record
