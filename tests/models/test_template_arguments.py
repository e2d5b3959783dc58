"""Arguments of the chat template reach every rendering: data, drafts, evaluation, and whoever loads the model after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers as tr

from support import tiny
from twofold.data.tokenize import Encoder
from twofold.demo.build import character_tokenizer
from twofold.errors import CheckpointError, ModelError
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, load_model
from twofold.models.tokenizers import prepare
from twofold.runs.train import train
from twofold.sampling.named_model import open_model

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}"
    "{{ '7 ' if enable_thinking is defined and not enable_thinking else '8 ' }}{{ tone | default('') }}"
    "{{ message.content }} {% else %}9 {{ message.content }}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}9 {% endif %}"
)


def base(folder: Path, template: Any = TEMPLATE) -> str:
    tokenizer = character_tokenizer()
    tiny.llama(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)


def rendered(tokenizer: Any, **arguments: Any) -> str:
    turns = [{"role": "user", "content": "5"}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **arguments)


def put(encoder: Encoder) -> str:
    """A prompt as the model reads it."""
    return encoder.tokenizer.decode(encoder.prompt("5"))


@pytest.mark.parametrize("template", [TEMPLATE, f"\n  {TEMPLATE}"], ids=["plain", "indented"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "8 5 9 "), ({"enable_thinking": False}, "7 5 9 "), ({"enable_thinking": True}, "8 5 9 "),
        ({"tone": "\"é'\\ "}, "8 \"é'\\ 5 9 "), ({"tone": 3, "enable_thinking": False}, "7 35 9 "),
    ],
)  # fmt: skip
def test_they_are_what_the_template_reads(
    arguments: dict[str, Any], expected: str, template: str, tmp_path: Path
) -> None:
    path = base(tmp_path, template)
    tokenizer = load_model(ModelSettings(path=path, template_arguments=arguments)).tokenizer
    found = rendered(tokenizer)
    assert found == rendered(tr.AutoTokenizer.from_pretrained(path), **arguments)
    assert found.strip() == expected.strip()
    assert rendered(tokenizer, enable_thinking=False).strip().startswith("7")
    once = tokenizer.chat_template
    prepare(tokenizer, (), arguments)
    assert tokenizer.chat_template == once
    tokenizer.save_pretrained(tmp_path / "written")
    assert rendered(tr.AutoTokenizer.from_pretrained(tmp_path / "written")) == found


@pytest.mark.parametrize(
    ("arguments", "template", "what", "remedy"),
    [
        ({"enable_thinkng": False}, TEMPLATE, "'enable_thinkng' is nothing that the chat", "mean `enable_thinking`"),
        ({"messages": ""}, TEMPLATE, "'messages' is not yours to set", "leave it out"),
        ({"enable_thinking": False}, None, "the tokenizer has none", "a model with a chat template"),
    ],
)
def test_what_would_do_nothing_is_refused(
    arguments: dict[str, Any], template: str | None, what: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=what) as caught:
        load_model(ModelSettings(path=base(tmp_path, template), template_arguments=arguments))
    assert caught.value.where == "model.template_arguments"
    assert remedy in caught.value.remedy


def test_a_run_learns_from_them_and_its_model_has_them(tmp_path: Path) -> None:
    path, data = base(tmp_path / "base"), tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}", "chosen": "3 4", "rejected": "4 3"} for n in range(10, 14)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def run(**model: Any) -> None:
        how: Any = {"training": {"steps": 2, "batch_size": 2}}
        train(path, str(data), run=str(tmp_path / "run"), model=model, **how)

    run(template_arguments={"enable_thinking": False})
    made = open_model(str(tmp_path / "run"))
    assert put(made.encoder) == "7 5 9 "
    plain = open_model(path)
    assert put(plain.encoder) == "8 5 9 "
    with pytest.raises(CheckpointError, match="template_arguments"):
        run(template_arguments={"enable_thinking": True})
    with pytest.raises(CheckpointError, match="template_arguments"):
        run()


def test_the_encoder_renders_them(tmp_path: Path) -> None:
    loaded = load_model(ModelSettings(path=base(tmp_path), template_arguments={"enable_thinking": False}))
    assert put(Encoder(loaded.tokenizer, loaded.stop_tokens)) == "7 5 9 "


def test_a_reward_model_of_a_classifier_reads_them(tmp_path: Path) -> None:
    tokenizer = tr.AutoTokenizer.from_pretrained(base(tmp_path / "base"))
    config = tiny.llama(vocab_size=len(tokenizer)).config
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
    tr.LlamaForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    settings = ModelSettings(path=str(tmp_path / "rm"), template_arguments={"enable_thinking": False})
    _, loaded = load_reward_model(settings)
    assert rendered(loaded.tokenizer).strip() == "7 5 9"
