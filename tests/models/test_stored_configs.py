"""A config is read without the code beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers as tr

from twofold.models.tokenizer_files import config_at


def test_code_of_a_known_type_is_passed_over(tmp_path: Path) -> None:
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\nclass Own: ...\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    config = {"model_type": "llama", "hidden_size": 64, "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = config_at(str(tmp_path))
    assert (type(found), found.hidden_size) == (tr.LlamaConfig, 64)
    assert not (tmp_path / "ran").exists()


def test_code_of_another_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise AssertionError('it ran')", encoding="utf-8")
    config = {"model_type": "unheard", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        config_at(str(tmp_path))
