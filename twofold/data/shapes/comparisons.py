"""Two answers and the verdict of a person: the sets of comparisons as they are published.

- openai/summarize_from_feedback, comparisons (Stiennon et al. 2020, arXiv:2009.01325): `choice` is 0 or 1
- stanfordnlp/SHP (Ethayarajh et al. 2022, arXiv:2110.08420): `labels` is 1 where A is preferred
- nvidia/HelpSteer2 and HelpSteer3, preferences (Wang et al. 2024, arXiv:2410.01257; 2025, arXiv:2505.11475):
  `preference_strength` and `overall_preference` from -3, the first is much better, to 3
- PKU-Alignment/PKU-SafeRLHF (Ji et al. 2024, arXiv:2406.15513): `better_response_id` and `safer_response_id`
- LMArena (Chiang et al. 2024, arXiv:2403.04132): `winner`, or `winner_model_a`, `winner_model_b` and `winner_tie`

A row without a winner is passed over with a warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from twofold.data import chat
from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Pair

TIE = "neither answer is preferred"
HEADS = {"subreddit": "SUBREDDIT: r/", "title": "TITLE: ", "post": "POST: ", "article": "ARTICLE: "}
ARENA_TIES = ("tie", "tie (bothbad)", "both_bad")


def _pair(row: Fields, asked: str | None, sides: Sequence[str], winner: int | None) -> Pair:
    """The pair in which side `winner` (0 or 1) is chosen; None where the row is at fault already."""
    prompt, (chosen, rejected) = row.turns(asked, *(sides if not winner else reversed(sides)))
    return Pair(prompt, chosen, rejected, row.source)


def _one_of(row: Fields, field: str, first: Any, second: Any, ties: Collection[Any] = ()) -> int | None:
    """0 where `field` is `first`, 1 where it is `second`."""
    value = row.verdict(field)
    known = [v for v in (first, second) if type(v) is type(value) and v == value]
    if known:
        return int(known[0] == second)
    if type(value) in {type(tie) for tie in ties} and value in ties:
        row.pass_over(field, f"is {value!r}: {TIE}", "no preference")
    else:
        shown = f"{value!r}" if isinstance(value, int | str) else chat.kind(value)
        row.fault(field, f"is {shown[:80]}, not {first!r} or {second!r}", f"write {first!r} or {second!r}")
    return None


def _summaries(row: Fields) -> Pair:
    """The post under the paper's heads (appendix B.2), as text up to `TL;DR:`; summaries begin with a space."""
    info, both = row.row["info"], row.row["summaries"]
    winner = _one_of(row, "choice", 0, 1)
    texts = [_text(summary) for summary in both] if isinstance(both, list | tuple) else []
    if not isinstance(info, Mapping) or not (info.get("post") or info.get("article")):
        row.fault("info", "has no `post` and no `article`", 'write {"post": "…"}, or remove the row')
        return Pair("", "", "", row.source)
    if len(texts) != 2 or None in texts:
        row.fault("summaries", "are not two of {text, policy}", "write two, or remove the row")
        return Pair("", "", "", row.source)
    for place, summary in enumerate(both, 1):
        row.refuse_unread(f"summaries[{place}]", summary, ("text", "policy"))
    row.refuse_unread("info", info, (*HEADS, "site"))
    parts = [f"{head}{info[key]}" for key, head in HEADS.items() if info.get(key)]
    prompt = "\n\n".join([*parts, "TL;DR:"])
    named = {"info": prompt, **{f"summaries[{n}]": text for n, text in enumerate(texts, 1)}}
    return _pair(row.spread(named), "info", ["summaries[1]", "summaries[2]"], winner)


def _text(summary: Any) -> str | None:
    text = summary.get("text") if isinstance(summary, Mapping) else None
    return text if isinstance(text, str) else None


def _reddit(row: Fields) -> Pair:
    return _pair(row, "history", ("human_ref_A", "human_ref_B"), _one_of(row, "labels", 1, 0))


def _strength(
    row: Fields,
    field: str = "preference_strength",
    prompt: str = "prompt",
    sides: Sequence[str] = ("response_1", "response_2"),
) -> Pair:
    """How much better the second side is: below 0 where the first one is."""
    remedy = f"write a number below 0 where {sides[0]} is better, above 0 where {sides[1]} is, or remove the row"
    strength = row.number(field, row.verdict(field), remedy)
    if strength == 0:
        row.pass_over(field, f"is 0: {TIE}", "no preference")
    return _pair(row, prompt, sides, None if strength is None else int(strength > 0))


def _better(row: Fields) -> Pair:
    return _pair(row, "prompt", ("response_0", "response_1"), _one_of(row, "better_response_id", 0, 1))


def _arena(row: Fields) -> Pair:
    winner = _one_of(row, "winner", "model_a", "model_b", ARENA_TIES)
    return _pair(row, None, ("conversation_a", "conversation_b"), winner)


_WINS = ("winner_model_a", "winner_model_b", "winner_tie")


def _arena_texts(row: Fields) -> Pair:
    """Prompts and responses are JSON lists of text, one for each turn; the last response is the answer."""
    won = [row.row[key] for key in _WINS]
    if sorted(map(str, won)) != ["0", "0", "1"]:
        row.fault(_WINS[0], "and the other two winners are not one 1 and two 0", "write one 1 and two 0")
    elif str(won[2]) == "1":
        row.pass_over(_WINS[2], f"is 1: {TIE}", "no preference")
    asked = _texts(row, "prompt")
    sides = {field: _conversation(row, field, asked) for field in ("response_a", "response_b")}
    if None in sides.values():
        return Pair("", "", "", row.source)
    return _pair(row.spread(sides), None, tuple(sides), int(str(won[1]) == "1"))


def _conversation(row: Fields, field: str, asked: Sequence[str] | None) -> list[dict[str, Any]] | None:
    answers = _texts(row, field)
    if asked is None or answers is None:
        return None
    if len(asked) != len(answers):
        row.fault(field, f"has {len(answers)} answers to {len(asked)} prompts", "remove the row")
    both = zip(asked, answers, strict=False)
    return [{"role": r, "content": c} for pair in both for r, c in zip(("user", "assistant"), pair, strict=True)]


def _texts(row: Fields, field: str) -> list[str] | None:
    try:
        texts = json.loads(row.row[field])
    except (ValueError, TypeError, RecursionError):
        texts = None
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    row.fault(field, "is no JSON list of texts", 'write it as ["…", …], one text for each turn')
    return None


def _about(*keys: str) -> Callable[[Mapping[str, Any]], Collection[str]]:
    return lambda row: keys


def _opinions(row: Mapping[str, Any]) -> Collection[str]:
    """What PKU's annotators think of each response; `columns.better_response_id=safer_response_id` trains on safety."""
    of_one = [key for key in row if key.startswith(("is_response_", "response_0_", "response_1_"))]
    return [*of_one, "safer_response_id", "prompt_source"]


SHAPES = (
    Shape("info + summaries + choice (OpenAI summaries)", ("info", "summaries", "choice"), _summaries,
          beside=_about("extra", "batch")),
    Shape("history + human_ref_A + human_ref_B (SHP)", ("history", "human_ref_A", "human_ref_B", "labels"), _reddit,
          beside=_about("upvote_ratio", "created_at_utc_A", "created_at_utc_B", "score_A", "score_B",
                        "seconds_difference", "score_ratio", "c_root_id_A", "c_root_id_B")),
    Shape("prompt + response_1 + response_2 (HelpSteer2)",
          ("prompt", "response_1", "response_2", "preference_strength"), _strength,
          beside=_about("preference_statement", "preference_elaboration", "three_most_similar_preferences",
                        "all_preferences_unprocessed")),
    Shape("context + response1 + response2 (HelpSteer3)",
          ("context", "response1", "response2", "overall_preference"),
          partial(_strength, field="overall_preference", prompt="context", sides=("response1", "response2")),
          beside=_about("individual_preference")),
    Shape("prompt + response_0 + response_1 (PKU-SafeRLHF)",
          ("prompt", "response_0", "response_1", "better_response_id"), _better, beside=_opinions),
    Shape("conversation_a + conversation_b + winner (LMArena)", ("conversation_a", "conversation_b", "winner"), _arena,
          beside=_about("model_a", "model_b", "anony", "tstamp", "toxic_chat_tag", "evaluation_order",
                        "conv_metadata", "category_tag", "is_code", "full_conversation")),
    Shape("prompt + response_a + response_b (LMArena)", ("prompt", "response_a", "response_b", *_WINS), _arena_texts,
          beside=_about("model_a", "model_b")),
)  # fmt: skip
"""They go before formats that need fewer keys."""
