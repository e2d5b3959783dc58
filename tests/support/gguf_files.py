"""GGUF files of tiny Llama models, written with the package gguf; run by path, a converter for `twofold export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4}
LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
WORDS = ["<unk>", "<s>", "</s>", *(chr(ord("a") + i) for i in range(26)), *map(str, range(10))]


def llama(**changes: Any) -> Any:
    from support import tiny  # imports torch

    return tiny.llama(**{**SIZES, "vocab_size": len(WORDS), "rms_norm_eps": 1e-6, **changes})


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys as GGUF has them: the halves of the rotary pairs one after the other."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(path: Path, model: Any) -> None:
    weights = {name: value.detach().float().numpy() for name, value in model.state_dict().items()}
    write_weights(path, weights, model.config.to_dict())


def write_weights(path: Path, weights: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    import gguf

    writer, heads = gguf.GGUFWriter(path, "llama"), config["num_attention_heads"]
    writer.add_context_length(64)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(WORDS)
    writer.add_token_scores([-float(i) for i in range(len(WORDS))])
    writer.add_token_types([2, 3, 3, *([1] * (len(WORDS) - 3))])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    layers = range(config["num_hidden_layers"])
    names |= {f"blk.{i}.{k}": f"model.layers.{i}.{v}" for i in layers for k, v in LAYER.items()}
    for theirs, ours in names.items():
        value = weights[f"{ours}.weight"]
        value = interleaved(value, heads) if theirs.endswith(("attn_q", "attn_k")) else value
        writer.add_tensor(f"{theirs}.weight", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder: str, _: str, outfile: str, __: str, outtype: str) -> None:
    """As llama.cpp's converter is called: FOLDER --outfile FILE --outtype TYPE.."""
    from safetensors.numpy import load_file

    config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    if config["num_hidden_layers"] > 2:
        sys.exit("INFO: reading\nNotImplementedError: three layers are not supported")
    weights = load_file(Path(folder) / "model.safetensors")
    if config["num_hidden_layers"] == 1:
        weights["model.norm.weight"] = weights["model.norm.weight"] * 3  # a converter with a fault
    assert outtype == "f32"
    write_weights(Path(outfile), weights, config)


if __name__ == "__main__":
    main(*sys.argv[1:])
