"""Suggestions for a key or a kind that does not exist: its section, its spelling, or its name in another package."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from twofold.config.introspect import bare, fields, inner, kinds, members, paths, required

SECTIONS = ("training", "optimizer", "data", "model", "objective", "algorithm")
"""If a key is in several sections and the user names none, the first of these sections is meant."""

ELSEWHERE = {
    "lr": "optimizer.learning_rate",
    "optim": "optimizer.kind",
    "lr_scheduler_type": "optimizer.schedule",
    "warmup_ratio": "optimizer.warmup",
    "max_grad_norm": "optimizer.clip",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "max_steps": "training.steps",
    "per_device_train_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.batch_size, the whole batch of a step: packs divide it",
    "micro_batch_size": "training.packing.tokens",
    "save_steps": "training.checkpoint_every",
    "eval_steps": "training.evaluate_every",
    "report_to": "training.track",
    "output_dir": "run",
    "base_model": "model.path",
    "model_name_or_path": "model.path",
    "lora_r": "model.lora.rank",
    "lora_rank": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "lora_target_modules": "model.lora.targets",
    "target_modules": "model.lora.targets",
    "exclude_modules": "model.lora.exclude",
    "lora_modules_to_save": "model.lora.modules_to_save",
    "use_rslora": "model.lora.rslora",
    "use_dora": "model.lora.dora",
    "load_in_4bit": "model.quantize, with nf4 or int8",
    "load_in_8bit": "model.quantize, with nf4 or int8",
    "gradient_checkpointing": "model.activation_checkpointing",
    "max_seq_length": "data.tokenize.max_length",
    "sequence_len": "data.tokenize.max_length",
    "cutoff_len": "data.tokenize.max_length",
    "loss_type": "objective.kind",
    "kind": "objective.kind",
    "rl": "objective.kind",
}
"""Keys of TRL, axolotl and LLaMA-Factory, and their counterparts here."""

_NO_DROPOUT = (
    "take it out: with dropout the loss would not begin at ln 2, and the model without its adapter would not be the "
    "reference; fewer steps and a smaller rank guard against overfitting"
)
NOT_HERE = dict.fromkeys(("dropout", "lora_dropout", "attention_dropout"), ("there is no dropout here", _NO_DROPOUT))
"""Keys of other packages that twofold leaves out on purpose: the reason, and what to do."""

ROLLED_OUT = ("ppo", "grpo", "rloo", "reinforce")
"""Objectives on the policy's own samples, whose algorithm is policy_gradient."""

REWARD_MODELS = ("rm", "reward", "reward_model", "reward_modeling")


def of_key(key: tuple[str | int, ...], around: Any, choices: Any, whole: Any, data: Any) -> tuple[str, str]:
    """What is wrong with a `key` that `around`, one of the `choices` for its section, does not have, and what to do.

    `whole` and `data` are the type and the document that may have the key elsewhere.
    """
    word, section = str(key[-1]), ".".join(map(str, key[:-1]))
    others = [kind for choice in members(choices) if word in fields(choice) for kind in kinds(choice)]
    if others and (kind := next(iter(kinds(around)), None)):
        remedy = f"take it out, or replace the whole section: on the line, {section}={{kind: {kind}}} does"
        return f"unknown key of {kind} (known to {_listed(others, 3)})", remedy
    if word in NOT_HERE:
        return NOT_HERE[word]
    if name := near(word, fields(around)):
        return "unknown key", f"did you mean `{name}`?"
    if word in ELSEWHERE and "objective" in fields(whole):
        return "unknown key", f"here it is `{ELSEWHERE[word]}`"
    path = of_word(word, whole, data)
    return "unknown key", f"did you mean `{path}`?" if path else f"the keys here are {_listed(fields(around))}"


def of_word(word: str, whole: Any, data: Any = None) -> str | None:
    """The path in `whole` of a key with this or a similar spelling; of several, the likeliest."""
    known = sorted(paths(whole, (), data), key=_likelihood)
    names = [path[-1] for path in known]
    name = word if word in names else near(word, names)
    return None if name is None else ".".join(known[names.index(name)])


def of_kind(kind: Any, choices: Any, section: str, whole: Any) -> tuple[str, str]:
    """What is wrong with a `kind` that none of the `choices` has, and what to do."""
    if kind is None:
        return "missing", f"one of {_listed(_kinds(choices))}"
    what, word = f"unknown kind {kind!r}", str(kind).lower().replace("-", "_")
    if section == "algorithm" and word in ROLLED_OUT:
        return what, f"{word} is an objective: algorithm.kind=policy_gradient with objective.kind={word}"
    others = [name for name in fields(whole) if name != section and word in _kinds(bare(inner(whole, name)))]
    if others:
        return what, f"{word} is an {others[0]}: write {others[0]}.kind={word}"
    if section == "objective" and word in REWARD_MODELS:
        return what, "a reward model is trained with objective.kind=bradley_terry"
    name = near(word, _kinds(choices))
    return what, f"did you mean `{name}`?" if name else f"one of {_listed(_kinds(choices))}"


def of_value(key: str, value: Any, type_: Any) -> str:
    """What to do about a `value` where a section of keys is expected."""
    kind = str(value).lower()
    if kind in _kinds(type_):
        return f"write {key}.kind={kind}"
    must = required(type_)
    if len(must) == 1 and isinstance(value, str):
        return f"did you mean {key}.{must[0]}={value}?"
    return f"its keys are {_listed(fields(type_) or ['kind'])}"


def near(word: str, known: Sequence[str]) -> str | None:
    """The known word with the most similar spelling. Two exchanged letters count as the most similar."""
    turned = [name for name in known if sorted(name) == sorted(word)]
    return next(iter([*turned, *difflib.get_close_matches(word, known, n=1)]), None)


def _kinds(choices: Any) -> list[str]:
    return [kind for choice in members(choices) for kind in kinds(choice)]


def _likelihood(path: tuple[str, ...]) -> tuple[int, int]:
    return len(path), SECTIONS.index(path[0]) if path[0] in SECTIONS else len(SECTIONS)


def _listed(words: Sequence[str], most: int = 12) -> str:
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")
