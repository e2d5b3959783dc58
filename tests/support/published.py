"""What hubs publish, in small: model folders with real configs or tiny ones, chat templates, rows of data sets in their
published shape. No weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig

from support.chat_templates import FAMILIES, Family

CONFIGS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("published_configs.json").read_text(encoding="utf-8")
)
"""Model → its number of parameters, its template's family, and what of its config.json sizes depend on."""
SETS = {
    "HuggingFaceH4/ultrafeedback_binarized": "ultrafeedback",
    "nvidia/HelpSteer3:preference": "helpsteer",
    "trl-lib/tldr": "summaries",
    "trl-lib/tldr-preference": "pairs",
    "Anthropic/hh-rlhf": "dialogues",
    "openai/gsm8k:main": "problems",
    "data/qwen2.5-1.5b-gsm8k.jsonl": "pairs",
}
TINY = {"hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_hidden_layers": 2, "max_position_embeddings": 8192, "original_max_position_embeddings": 8192,
        "sliding_window": 16}  # fmt: skip
TINY_PICTURES = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1,
                 "image_size": 28, "patch_size": 14}  # fmt: skip
THINKING = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"


def tokenizer(family: str | None) -> Any:
    """A byte-level tokenizer with the template of a family, or without one."""
    known = next(f for f in FAMILIES if f.name == (family or "tulu"))
    made = Family.tokenizer(known)
    if family is None:
        made.chat_template = None
    elif family == "qwen3":
        made.chat_template = f"{known.template}{{% if add_generation_prompt %}}{THINKING}{{% endif %}}"
    return made


def config(name: str, rows: int | None = None) -> Any:
    """The config of a published model; with `rows` of its vocabulary, a tiny one of the same architecture."""
    values = CONFIGS[name]["config"]
    made = AutoConfig.for_model(**(values if rows is None else _tiny(values, rows)))
    made.architectures = values["architectures"]
    return made


def _tiny(values: Mapping[str, Any], rows: int) -> dict[str, Any]:
    if "text_config" in values:
        inner = {"text_config": _tiny(values["text_config"], rows), "vision_config": TINY_PICTURES}
        return {**values, **inner, "mm_tokens_per_image": 1, "image_token_index": rows - 1}
    small = {key: value for key, value in TINY.items() if values.get(key) is not None}
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return {**values, **small, **ends, "vocab_size": rows}


def folder(path: Path, name: str, *, tiny: bool) -> Path:
    """config.json and tokenizer of a published model, and nothing else."""
    made = tokenizer(CONFIGS[name]["template"])
    made.save_pretrained(path)
    config(name, len(made) + 8 if tiny else None).save_pretrained(path)  # a class of its own may add tokens
    return path


def rows(kind: str, lengths: tuple[tuple[int, int], ...]) -> Iterator[dict[str, Any]]:
    """Rows of a set in its published shape; `lengths` in characters of each prompt and completion."""
    for number, (prompt, answer) in enumerate(lengths):
        asked = f"{number} + 1 = ?".ljust(prompt, ".")
        good, bad = (f"{number + right}".ljust(answer - 5, "!") + f"\n#### {number + right}" for right in (1, 2))
        yield _row(kind, asked, good, bad)


def _row(kind: str, asked: str, good: str, bad: str) -> dict[str, Any]:
    chats = [[_turn("user", asked), _turn("assistant", text)] for text in (good, bad)]
    match kind:
        case "ultrafeedback":
            ratings = {"score_chosen": 8.5, "score_rejected": 4.0}
            chosen, rejected = chats
            same = {"prompt_id": "0f", "messages": chosen}
            return {"prompt": asked, **same, "chosen": chosen, "rejected": rejected, **ratings}
        case "helpsteer":
            about = {"domain": "general", "language": "english", "individual_preference": [{"score": -1}]}
            context = [_turn("user", asked)]
            return {**about, "context": context, "response1": good, "response2": bad, "overall_preference": -1}
        case "summaries":
            return {"prompt": asked, "completion": f" {good}"}
        case "dialogues":
            said = f"\n\nHuman: {asked}\n\nAssistant:"
            return {"chosen": f"{said} {good}", "rejected": f"{said} {bad}"}
        case "problems":
            return {"question": asked, "answer": good}
    return {"prompt": asked, "chosen": good, "rejected": bad}


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def offline(recipe: Path, place: Path, lengths: tuple[tuple[int, int], ...], *, tiny: bool) -> list[str]:
    """The settings by which a recipe reads a local folder and local rows in place of what it names on the hub."""
    document = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    files = {
        "data.train": document["data"]["train"],
        "data.heldout.file": document["data"].get("heldout", {}).get("file"),
        "evaluation.tasks.file": document.get("evaluation", {}).get("tasks", {}).get("file"),
    }
    changes = [f"model.path={folder(place / 'model', document['model']['path'], tiny=tiny)}", f"run={place / 'run'}"]
    for key, name in files.items():
        if name is not None:
            path = place / f"{key}.jsonl"
            made = rows(SETS[name], lengths if key == "data.train" else lengths[:2])
            # A set has no row of two splits, and its prompts no twins.
            lines = (json.dumps(row).replace("= ?", "= ?" if key == "data.train" else "is") for row in made)
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            changes.append(f"{key}={path}")
    return changes
