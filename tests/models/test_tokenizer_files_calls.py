"""What is asked of transformers for a tokenizer, a config and stop tokens, and what is stored on the tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers as tr

from support import tiny
from twofold.batch import ENCODED_PROMPTS
from twofold.errors import ModelError
from twofold.models import tokenizer_files
from twofold.models.tokenizer_files import (
    config_at,
    load_stop_tokens,
    load_tokenizer,
    mark,
    mark_by_adapter,
    plain_config,
)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of the class that loads tokenizers."""
    known: list[Any] = []

    def from_pretrained(path: str, **how: Any) -> Any:
        known.append((path, how))
        return tiny.tokenizer()

    monkeypatch.setattr(tokenizer_files.AutoTokenizer, "from_pretrained", from_pretrained)
    return known


def test_a_tokenizer_is_asked_for_by_revision_and_file(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    load_tokenizer("org/m", "r1", "x.gguf")
    assert calls.pop() == ("org/m", {"revision": "r1", "gguf_file": "x.gguf", "trust_remote_code": False})
    plain = tr.PreTrainedConfig(vocab_size=61)
    asked: list[Any] = []
    monkeypatch.setattr(tokenizer_files, "plain_config", lambda *named: asked.append(named) or plain)
    how = {"revision": "r1", "gguf_file": None, "trust_remote_code": False}
    assert getattr(load_tokenizer("org/m", "r1"), ENCODED_PROMPTS) is False
    assert (calls.pop(), asked) == (("org/m", {**how, "config": plain}), [("org/m", "r1")])
    plain.vocab_size = 60
    with pytest.raises(ModelError, match=r"org/m: the model has 60 embeddings, its tokenizer makes 1 tokens"):
        load_tokenizer("org/m", "r1")
    monkeypatch.setattr(tokenizer_files, "plain_config", lambda *named: None)
    whole = tr.T5Config(vocab_size=61)
    monkeypatch.setattr(tokenizer_files, "config_at", lambda *named: asked.append(named) or whole)
    calls.clear()
    assert getattr(load_tokenizer("org/m", "r2"), ENCODED_PROMPTS) is True
    assert (calls, asked[-1]) == ([("org/m", {**how, "revision": "r2"})], ("org/m", "r2"))


def test_without_a_config_the_adapter_decides(
    calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, want in (("SEQ_2_SEQ_LM", True), ("CAUSAL_LM", False)):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"task_type": task}), encoding="utf-8")
        assert getattr(load_tokenizer(str(tmp_path)), ENCODED_PROMPTS) is want
    for text in ("[]", "{"):
        (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
        tokenizer: Any = SimpleNamespace()
        mark_by_adapter(tokenizer, tmp_path)
        mark_by_adapter(tokenizer, tmp_path / "absent")
        assert not hasattr(tokenizer, ENCODED_PROMPTS)


def test_an_encoder_is_stored_as_a_boolean() -> None:
    tokenizer: Any = SimpleNamespace()
    for config, want in (
        (SimpleNamespace(is_encoder_decoder=1), True),
        (SimpleNamespace(is_encoder_decoder=None), False),
        (SimpleNamespace(), False),
    ):
        mark(tokenizer, config)  # type: ignore[arg-type]  # as much of a config as is read
        assert getattr(tokenizer, ENCODED_PROMPTS) is want


def test_a_config_is_asked_for_by_revision_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_files.AutoConfig, "from_pretrained", lambda path, **how: (path, how))
    how = {"revision": "r1", "gguf_file": "x.gguf", "trust_remote_code": False}
    assert config_at("org/m", "r1", "x.gguf") == ("org/m", how)
    assert config_at("org/m") == ("org/m", {"revision": None, "gguf_file": None, "trust_remote_code": False})


def test_both_files_of_a_plain_config_are_of_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    read = {"model_type": "llama", "vocab_size": 9, "is_encoder_decoder": False}
    named = {"tokenizer_class": "LlamaTokenizer"}
    monkeypatch.setattr(
        tr.PreTrainedConfig, "get_config_dict", lambda path, **how: asked.append((path, how)) or (read, {})
    )
    monkeypatch.setattr(tokenizer_files, "get_tokenizer_config", lambda path, **how: asked.append((path, how)) or named)
    found = plain_config("org/m", "r1")
    assert found is not None
    assert found.vocab_size == 9
    assert asked == [("org/m", {"revision": "r1"})] * 2


def test_stop_tokens_are_of_the_revision_or_of_main(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def from_pretrained(path: str, **how: Any) -> tr.GenerationConfig:
        asked.append((path, how))
        return tr.GenerationConfig(eos_token_id=[7])

    monkeypatch.setattr(tokenizer_files.GenerationConfig, "from_pretrained", from_pretrained)
    assert load_stop_tokens("org/m", tiny.tokenizer(), "r1") == load_stop_tokens("org/m", tiny.tokenizer()) == {7}
    assert asked == [("org/m", {"revision": "r1"}), ("org/m", {"revision": "main"})]
