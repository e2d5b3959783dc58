"""GGUF files are read through transformers, by name or where they are the only model of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.errors import ModelError
from twofold.models.export import export_model
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy
from twofold.models.locate import gguf_of, model_path
from twofold.models.model_size import model_size
from twofold.models.policy import Policy

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'twofold[gguf]'")

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
WORDS = ["<unk>", "<s>", "</s>", *(chr(ord("a") + i) for i in range(26)), *map(str, range(10))]


def llama() -> Any:
    return tiny.llama(**SIZES, vocab_size=len(WORDS), rms_norm_eps=1e-6)


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries and keys as GGUF has them: the halves of the rotary pairs one after the other."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def write(path: Path, model: Any) -> None:
    writer, config = gguf.GGUFWriter(path, "llama"), model.config
    writer.add_context_length(64)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(WORDS)
    writer.add_token_scores([-float(i) for i in range(len(WORDS))])
    writer.add_token_types([2, 3, 3, *([1] * (len(WORDS) - 3))])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    names |= {
        f"blk.{i}.{k}": f"model.layers.{i}.{v}" for i in range(config.num_hidden_layers) for k, v in LAYER.items()
    }
    for theirs, ours in names.items():
        value = weights[f"{ours}.weight"]
        heads = config.num_attention_heads
        value = interleaved(value, heads) if theirs.endswith(("attn_q", "attn_k")) else value
        writer.add_tensor(f"{theirs}.weight", value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base" / "tiny.gguf", llama())
    return tmp_path / "base"


def logps(model: Any) -> torch.Tensor:
    groups = tiny.groups((5, 4, 6), (12, 7, 9), vocabulary=len(WORDS))
    return torch.cat([x for row in Policy(model).logps(groups) for x in row])


@pytest.mark.parametrize("named", [None, "tiny.gguf"])
def test_it_is_the_model_that_was_written(folder: Path, named: str | None) -> None:
    loaded = load_model(ModelSettings(path=str(folder), gguf_file=named, precision="float32"))
    torch.testing.assert_close(logps(loaded.model), logps(llama()), rtol=1e-5, atol=1e-5)
    assert loaded.tokenizer.convert_tokens_to_ids(["a", "</s>"]) == [3, 2]
    assert loaded.stop_tokens == {2}
    assert model_path(str(folder)) == str(folder)
    assert model_size(ModelSettings(path=str(folder))).parameters == sum(p.numel() for p in llama().parameters())


def test_what_is_trained_of_it_is_a_plain_folder(folder: Path, tmp_path: Path) -> None:
    policy, loaded = load_policy(ModelSettings(path=str(folder), precision="float32"))
    save_policy(policy, loaded.tokenizer, tmp_path / "model")
    export_model(folder, tmp_path / "out")
    for made in (tmp_path / "model", tmp_path / "out"):
        again: Any = tr.AutoModelForCausalLM.from_pretrained(made, dtype="auto")
        assert again.dtype == torch.float32
        torch.testing.assert_close(logps(again), logps(llama()), rtol=1e-5, atol=1e-5)


def test_which_file_is_asked_where_there_are_several(folder: Path) -> None:
    write(folder / "other.gguf", llama())
    with pytest.raises(ModelError, match=r"several GGUF files: other\.gguf, tiny\.gguf") as caught:
        load_model(ModelSettings(path=str(folder)))
    assert "model.gguf_file" in caught.value.remedy
    assert gguf_of(str(folder), "tiny.gguf") == "tiny.gguf"
    with pytest.raises(ModelError, match="has no file third"):
        load_model(ModelSettings(path=str(folder), gguf_file="third.gguf"))


def test_a_damaged_file_is_one_message(folder: Path) -> None:
    (folder / "tiny.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError):
        load_model(ModelSettings(path=str(folder)))
