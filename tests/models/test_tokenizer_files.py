"""A tokenizer from files alone is that of its model's class, in less memory; where files lack, the class is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import transformers as tr

from support.seq2seq import T5, VOCABULARY, tokenizer
from twofold.batch import ENCODED_PROMPTS
from twofold.models.tokenizer_files import load_tokenizer, plain_config

MOST_MIB = 400
"""The memory of `data check --model` for any number of rows. A tokenizer of 50,000 tokens takes 45 of it."""
DECODER = {"architectures": ["LlamaForCausalLM"]}
NOTHING: Mapping[str, Any] = {}


def stored(
    folder: Path, config: tr.PreTrainedConfig, changes: Mapping[str, Any], names: Mapping[str, Any] = NOTHING
) -> str:
    """A tokenizer and a config without weights; a change to None leaves a key out."""
    tokenizer("t5").save_pretrained(folder)
    config.save_pretrained(folder)
    for file, some in {"config.json": changes, "tokenizer_config.json": names}.items():
        read = json.loads((folder / file).read_text(encoding="utf-8")) | some
        (folder / file).write_text(json.dumps({k: v for k, v in read.items() if v is not None}), encoding="utf-8")
    return str(folder)


def llama() -> tr.PreTrainedConfig:
    return tr.LlamaConfig(vocab_size=VOCABULARY)


def test_a_tokenizer_by_its_files_is_that_of_its_models_class(tmp_path: Path) -> None:
    path = stored(tmp_path, llama(), DECODER)
    plain = plain_config(path)
    assert plain is not None
    assert type(plain) is tr.PreTrainedConfig
    assert (plain.vocab_size, plain.model_type) == (VOCABULARY, "llama")
    found, expected = load_tokenizer(path), tr.AutoTokenizer.from_pretrained(path)
    for kind in (type, lambda t: t.get_vocab(), lambda t: t.special_tokens_map, lambda t: t("what is </s> 3?")):
        assert kind(found) == kind(expected)
    assert getattr(found, ENCODED_PROMPTS) is False


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"model_type": "unheard"}, {}),
        ({"model_type": None}, {}),
        ({"vocab_size": None}, {}),
        ({"architectures": ["LlamaModel"]}, {}),
        ({"text_config": {"vocab_size": 9}}, {}),
        ({"auto_map": {"AutoConfig": "own.Own"}}, {}),
        ({}, {"tokenizer_class": None}),
        ({}, {"auto_map": {"AutoTokenizer": ["own.Own", None]}}),
    ],
)
def test_files_that_lack_something_leave_it_to_the_class(
    tmp_path: Path, changes: dict[str, Any], names: dict[str, Any]
) -> None:
    assert plain_config(stored(tmp_path / "whole", llama(), DECODER)) is not None
    assert plain_config(stored(tmp_path / "lacking", llama(), DECODER | changes, names)) is None


def test_an_encoder_and_a_damaged_config_are_left_to_the_class(tmp_path: Path) -> None:
    path = stored(tmp_path, tr.T5Config(**T5), {"architectures": ["T5ForConditionalGeneration"]})
    assert plain_config(path) is None
    assert getattr(load_tokenizer(path), ENCODED_PROMPTS) is True
    for text in ("{", "[]", '{"model_type": ["llama"]}'):
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        assert plain_config(path) is None
    assert plain_config(str(tmp_path / "absent")) is None


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the kernel of Linux counts")
def test_a_check_with_a_tokenizer_takes_400_mib_at_most_and_imports_no_model(tmp_path: Path) -> None:
    path, rows, program = stored(tmp_path / "model", llama(), DECODER), tmp_path / "rows.jsonl", tmp_path / "check.py"
    made = [{"prompt": f"what is {n}?", "chosen": "a", "rejected": "b"} for n in range(99)]
    rows.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    arguments = ["data", "check", str(rows), "--model", path]
    program.write_text(
        f"import sys\nfrom twofold.cli.main import main\ntry:\n    main({arguments})\nfinally:\n"
        "    print([*{'transformers.activations', 'transformers.modeling_utils'} & {*sys.modules}], file=sys.stderr)\n"
        "    print(*[line for line in open('/proc/self/status') if 'VmHWM' in line], file=sys.stderr)\n",
        encoding="utf-8",
    )
    how = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, str(program)], env=how, capture_output=True, text=True, check=False)
    assert "99 rows, 99 usable" in ended.stdout, ended.stderr
    loaded, peak = [line for line in ended.stderr.splitlines() if line.strip()][-2:]
    assert loaded == "[]"
    assert int(peak.split()[1]) <= MOST_MIB * 1024
