"""Several completions of one prompt: listed best first, or with scores or ranks that put them in order.

UltraFeedback keeps `instruction` and `completions` of {response, overall_score}, Nectar `answers` of {answer, rank}
(axolotl's zephyr.nectar), distilabel `generations` and `ratings`, NeMo RL `context` and `completions` of
{rank, completion} with 0 for the best, RewardBench 2 (arXiv:2506.01937) lists of chosen and of rejected answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from twofold.data import chat
from twofold.data.issues import quoted
from twofold.data.shapes.fields import Fields, is_number
from twofold.data.shapes.shape import Shape
from twofold.records import Ranking, ranked

TEXTS = ("response", "answer", "completion", "text")
SCORES = ("overall_score", "score", "rating")
RANKS = ("rank",)


def _best_first(row: Fields) -> Ranking:
    """As listed, best first, or from the highest score down where there are scores."""
    listed = _listed(row, "completions")
    if listed is None:
        return Ranking("", (), row.source)
    if row.row.get("scores") is not None:
        return _by_score(row, "prompt", "completions", _numbers(row, "scores", len(listed)))
    return _ranking(row, "prompt", {ranked(rank): completion for rank, completion in enumerate(listed)})


def _ranks(row: Fields) -> Ranking:
    listed = _listed(row, "completions")
    ranks = None if listed is None else _numbers(row, "ranks", len(listed))
    return replace(_by_score(row, "prompt", "completions", ranks and [-r for r in ranks]), scores=None)


def _ratings(row: Fields) -> Ranking:
    listed = _listed(row, "generations")
    return _by_score(row, "instruction", "generations", listed and _numbers(row, "ratings", len(listed)))


def _of_objects(row: Fields) -> Ranking:
    field = "answers" if "answers" in row.row else "completions"
    listed = _listed(row, field)
    if listed is None or not all(_judged(item) for item in listed):
        if listed is not None:
            row.fault(field, "holds items that are not {text, score}", "give every item its text and its score or rank")
        return Ranking("", (), row.source)
    by_rank = not any(k in item for item in listed for k in SCORES)
    names = [next(k for k in TEXTS if k in item) for item in listed]
    for place, (item, name) in enumerate(zip(listed, names, strict=True), 1):
        row.refuse_unread(f"{field}[{place}]", item, (name, *SCORES, *RANKS))
    scales = list(dict.fromkeys(scale for item in listed if (scale := _scale(item))))
    if len(scales) > 1:
        reason = f"are rated by {quoted(scales)}: numbers of two scales have no order"
        row.fault(field, reason, "rate all of them by one key")
        return Ranking("", (), row.source)
    texts = [item[name] for item, name in zip(listed, names, strict=True)]
    inner = row.spread({field: texts, f"{field}.score": [_score(item) for item in listed]})
    asked = next((k for k in ("prompt", "context") if row.row.get(k) is not None), "instruction")
    made = _by_score(inner, asked, field, _numbers(inner, f"{field}.score", len(listed)))
    return replace(made, scores=None) if by_rank else made


def _right_and_wrong(row: Fields) -> Ranking:
    """Lists of right and of wrong answers, scored 1 and 0: within a list there is no order."""
    if not _texts(row.row):
        row.fault("chosen", "and `rejected` are not two lists of texts", 'write both as ["…", …], or remove the row')
        return Ranking("", (), row.source)
    lists = [row.row[field] for field in ("chosen", "rejected")]
    named = {f"{f}[{n}]": text for f, texts in zip(("chosen", "rejected"), lists, strict=True)
             for n, text in enumerate(texts, 1)}  # fmt: skip
    made = _ranking(row, "prompt", named)
    return replace(made, scores=tuple(float(name.startswith("chosen")) for name in named))


def _texts(row: Mapping[str, Any]) -> bool:
    sides = (row["chosen"], row["rejected"])
    return all(isinstance(s, list | tuple) and s and all(isinstance(t, str) for t in s) for s in sides)


def _by_score(row: Fields, asked: str, field: str, scores: Sequence[float] | None) -> Ranking:
    """The completions of `field` from the highest score down; equal ones keep the order of the file, with a warning.

    Each completion is read as a field of its own, named by its index in the file, so that an error names it.
    """
    if scores is None:
        return Ranking("", (), row.source)
    if len(set(scores)) < len(scores):
        reason = f"has {len(scores)} completions of {len(set(scores))} different scores"
        remedy = "break the ties, unless the objective reads `scores`: any other learns equal ones in the file's order"
        row.remark(field, reason, remedy, "tied scores")
    places = sorted(range(len(scores)), key=lambda place: -scores[place])
    made = _ranking(row, asked, {f"{field}[{place + 1}]": row.row[field][place] for place in places})
    return replace(made, scores=tuple(scores[place] for place in places))


def _ranking(row: Fields, asked: str, named: Mapping[str, Any]) -> Ranking:
    if len(named) < 2:
        field = next(iter(named), "completions").partition("[")[0]
        reason = f"has {len(named)} completions: nothing to rank"
        row.fault(field, reason, "list two or more, best first", "nothing to rank")
    spread = row.spread(named)
    if asked != "instruction":
        prompt, texts = spread.turns(asked, *named)
    else:
        prompt, texts = spread.answers(spread.user(asked), asked, *named)
    prompt = row.with_tools(prompt, row.row.get("tools"))
    return Ranking(prompt, tuple(texts), row.source)


def _listed(row: Fields, field: str) -> Sequence[Any] | None:
    value = row.row.get(field)
    if isinstance(value, list | tuple):
        return value
    reason = "is null" if value is None else f"is {chat.kind(value)}, not a list of completions"
    row.fault(field, reason, "list the completions, best first")
    return None


def _numbers(row: Fields, field: str, count: int) -> list[float] | None:
    """One finite number for each of `count` completions."""
    values = row.row.get(field)
    if not isinstance(values, list | tuple) or len(values) != count:
        has = f"has {len(values)} scores" if isinstance(values, list | tuple) else f"is {chat.kind(values)}"
        row.fault(field, f"{has}, not one for each of {count} completions", "list one number for each completion")
        return None
    for place, value in enumerate(values, 1):
        if row.number(f"{field}[{place}]", value, "write a number, or remove the row") is None:
            return None
    return [float(v) for v in values]


def _judged(item: Any) -> bool:
    return isinstance(item, Mapping) and any(k in item for k in TEXTS) and any(k in item for k in (*SCORES, *RANKS))


def _scale(item: Mapping[str, Any]) -> str | None:
    """The key by which an item is rated: the first that is not null."""
    return next((key for key in (*SCORES, *RANKS) if item.get(key) is not None), None)


def _score(item: Mapping[str, Any]) -> Any:
    """An item's score, high for good; a rank is one the other way round."""
    scale = _scale(item)
    value: Any = None if scale is None else item[scale]
    return -value if scale in RANKS and is_number(value) else None if scale in RANKS else value


def _objects(field: str) -> Any:
    def fits(row: Mapping[str, Any]) -> bool:
        value = row[field]
        return isinstance(value, list | tuple) and len(value) > 0 and all(_judged(item) for item in value)

    return fits


_AROUND = ("system", "tools")
SHAPES = (
    Shape("prompt + completions + ranks", ("prompt", "completions", "ranks"), _ranks, _AROUND),
    Shape("instruction + generations + ratings", ("instruction", "generations", "ratings"), _ratings, _AROUND),
    Shape("prompt + answers (ranked)", ("prompt", "answers"), _of_objects, _AROUND, _objects("answers")),
    Shape(
        "instruction + completions (scored)",
        ("instruction", "completions"),
        _of_objects,
        _AROUND,
        _objects("completions"),
    ),
    Shape("prompt + completions (scored)", ("prompt", "completions"), _of_objects, _AROUND, _objects("completions")),
    Shape("context + completions (NeMo)", ("context", "completions"), _of_objects, (), _objects("completions")),
    Shape(
        "prompt + completions (best first)",
        ("prompt", "completions"),
        _best_first,
        ("scores", *_AROUND),
    ),
)
SETS = (
    Shape("prompt + lists of chosen and rejected (RewardBench 2)", ("prompt", "chosen", "rejected"), _right_and_wrong,
          ("system",), _texts,
          lambda row: ("num_correct", "num_incorrect", "total_completions", "additional_metadata", "num_rejected")),
)  # fmt: skip
"""Several right answers and several wrong ones; they go before pairs."""
