"""Which keys of rows, messages and parts may go unread: those that are about a row, not in it. All others are refused.

A reader names the keys that it uses; `unread` finds the filled ones that it does not use and that are not harmless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from twofold.data.issues import LONGEST_NAME, MOST_NAMES, shortened

HARMLESS: Mapping[str, tuple[str, ...]] = {
    "names and places of a row": (
        "id", "ids", "idx", "index", "key", "uid", "uuid", "guid", "hash", "row", "line", "no", "number", "split",
        "fold", "subset", "part", "shard", "turn", "turns", "turn_identifier", "unnamed: 0", "__index_level_0__",
        "", "version",
    ),
    "where it comes from": (
        "source", "sources", "origin", "dataset", "dataset_name", "data_source", "file", "filename", "path", "url",
        "urls", "link", "links", "license", "licence", "author", "copyright", "provenance", "meta", "metadata",
        "extra_info", "distilabel_metadata", "avatarurl", "title",
    ),
    "when, and by whom": (
        "time", "date", "timestamp", "created", "created_at", "updated", "updated_at", "annotator", "annotators",
        "labeler", "worker", "user", "username", "model", "models", "model_name", "generator", "generation_model",
        "generation_models", "labelling_model", "chosen_model", "rejected_model", "judge", "scored_by", "country",
        "state", "hashed_ip", "header", "redacted", "status",
        "cleaning_status",
    ),
    "what it is about": (
        "lang", "language", "languages", "locale", "topic", "topics", "category", "categories", "subcategory",
        "domain", "subject", "task", "task_type", "task_name", "type", "subtype", "tag", "tags", "keywords",
        "level", "difficulty", "comment", "comments", "note", "notes", "good_natured", "toxic", "openai_moderation",
        "detoxify_moderation",
    ),
    "ratings, of which a row's order is already the result": (
        "score", "scores", "rating", "ratings", "rank", "quality", "confidence", "agreement", "votes", "views",
        "likes", "upvotes", "helpfulness", "correctness", "coherence", "complexity", "verbosity", "reward",
        "rewards", "reward_scores", "step_scores", "chosen_step_scores", "rejected_step_scores", "reward_step_scores",
        "score_chosen", "score_rejected", "chosen_score", "rejected_score",
        "gold_score", "chosen_rating", "rejected_rating", "chosen_avg_rating", "rejected_avg_rating",
        "chosen_reward", "rejected_reward", "rationale", "rationales", "critique", "critiques", "annotations",
        "fine_grained_score", "principle", "custom_system_prompt", "order", "labelling_prompt", "original_question",
        "original_chosen", "original_rejected", "correct_answers", "incorrect_answers", "raw_labelling_response",
    ),
    "how long it is, and how it was sampled": (
        "length", "lengths", "tokens", "num_tokens", "token_count", "n_tokens", "num_turns", "num_responses",
        "sample", "seed", "temperature", "top_p", "truncated", "stopped", "finish_reason", "stop_reason", "logp",
        "usage",
    ),
    "the reference answer that `twofold score` and `twofold data build` verify with": ("answer",),
}  # fmt: skip
"""Keys of rows and messages that are ignored without an error, by their content. docs/data.md lists them."""
_NAMES = frozenset(name for names in HARMLESS.values() for name in names)
_ENDINGS = ("_id", "_ids", "_idx", "_uuid", "_hash", "_url")
_MEANINGS = {
    "reasoning, which is read only as a text of a message": (
        "reasoning_content", "reasoning", "reasoning_details", "thinking", "thought", "thoughts",
    ),
    "a call of tools, which is read only in messages": (
        "tool_calls", "tool_call_id", "tool_call", "function_call", "functions",
    ),
    "a training weight or mask, which is not supported yet": (
        "weight", "weights", "loss", "loss_weight", "sample_weight", "train", "trainable", "train_on_turn", "mask",
        "label", "labels", "margin", "probability",
    ),
    "a picture, which is not read": (
        "image", "images", "image_url", "input_image", "picture", "pixel_values", "image_bytes",
    ),
    "sound or film, which is not read": (
        "audio", "audios", "input_audio", "video", "videos", "video_url",
    ),
    "a file, which is not read": ("file_data", "input_file", "document", "documents"),
    "the name of a speaker, which is read only in messages": ("name",),
}  # fmt: skip
_MEANING = {name: meaning for meaning, names in _MEANINGS.items() for name in names}
_EVER = frozenset({"tool_call_id"})
"""What carries meaning although it ends as names of rows do."""


def filled(value: Any) -> bool:
    """Whether a value has content: null, an empty text and an empty list have none."""
    return value is not None and not (isinstance(value, str | list | tuple | dict) and not value)


def harmless(key: str) -> bool:
    """Whether a key that nothing reads may be there."""
    return len(key) <= LONGEST_NAME and _harmless(key)


@lru_cache(1024)
def _harmless(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return name in _NAMES or (name.endswith(_ENDINGS) and name not in _EVER)


def unread(holder: Mapping[str, Any], used: Collection[str]) -> list[str]:
    """The filled keys of `holder` that are neither used nor harmless."""
    return [k for k, v in holder.items() if k not in used and filled(v) and not harmless(k)]


def meaning(key: str) -> str:
    """The error text for a filled key that nothing reads."""
    known = _MEANING.get(key.lower().replace("-", "_"))
    return f"holds {known}" if known else "is filled, and twofold does not read it"


def remedy(keys: Sequence[str]) -> str:
    """What to do about the unread `keys` of one row or message."""
    names = [key for key in keys[:MOST_NAMES] if shortened(key) == key]
    it = "it" if len(keys) == 1 else "them"
    if len(names) < len(keys[:MOST_NAMES]):
        return f"leave {it} out"
    return f"leave {it} out, or drop {it} by data.ignore=[{', '.join(names)}] (--ignore {','.join(names)})"


def without(value: Any, ignored: Collection[str]) -> Any:
    """A row, or what it holds, without its null fields (Arrow fills structs with them) and without `ignored` keys; the
    definitions of tools have keys of their own."""
    if isinstance(value, dict):
        return {
            k: without(v, () if k == "tools" else ignored)
            for k, v in value.items()
            if v is not None and k not in ignored
        }
    return [without(v, ignored) for v in value] if isinstance(value, list) else value


def is_meant(key: str) -> bool:
    """Whether a key is known to be relevant to training or judging."""
    return len(key) <= LONGEST_NAME and key.lower().replace("-", "_") in _MEANING


def says_again(key: str, value: Any, known: set[str]) -> bool:
    """Whether a value, of a key without a meaning of its own, is made of `known` texts."""
    return not is_meant(key) and isinstance(value, str | list) and known.issuperset(texts_in(value))


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value; anything else than texts, lists and messages counts as a text of its own."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_in(inner)
    else:
        yield value if isinstance(value, str) else repr(value)
