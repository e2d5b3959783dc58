"""What stands in the way of loading a model is one message; what is written keeps the dtype of what was read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr
from safetensors import safe_open

from support import tiny
from support.architectures import ENCODER
from twofold.errors import ModelError
from twofold.models.adapters import LoRA
from twofold.models.export import export_model
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, load_model, load_policy, save_policy
from twofold.models.loadable import readable, refuse_broken_weights, refuse_ids
from twofold.models.model_size import model_size
from twofold.models.tokenizer_files import load_tokenizer


def written(folder: Path, model: tr.PreTrainedModel, tokenizer: Any = None) -> str:
    model.save_pretrained(folder)
    tokenizer = tokenizer or tiny.tokenizer()
    tokenizer.eos_token = "2"
    tokenizer.save_pretrained(folder)
    return str(folder)


def dtypes(folder: Path) -> dict[str, str]:
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118  # no mapping


@pytest.mark.parametrize("load", [load_tokenizer, lambda path: load_policy(ModelSettings(path=path))])
def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(load: Callable[[str], object], tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    path = written(tmp_path, tiny.llama(), tokenizer)
    with pytest.raises(ModelError, match="61 embeddings, its tokenizer makes 2 tokens beyond them: '<th") as caught:
        load(path)
    assert "resize_token_embeddings" in caught.value.remedy


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("load", [load_model, load_policy, load_reward_model])
def test_weights_that_are_no_numbers_are_refused_by_name(
    load: Callable[[ModelSettings], object], value: float, tmp_path: Path
) -> None:
    model: Any = tiny.llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = value
    settings = ModelSettings(path=written(tmp_path, model))
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj\.weight holds a value that is not finite"):
        load(settings)


def test_an_encoder_that_reads_no_text_is_named_as_such(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0}
    config = tr.WhisperConfig(vocab_size=61, bos_token_id=1, eos_token_id=2, **sizes, **heads)
    path = written(tmp_path, tr.WhisperForConditionalGeneration(config))
    for load in (load_model, model_size):
        with pytest.raises(ModelError, match="is a whisper model, whose encoder reads no text"):
            load(ModelSettings(path=path))


def test_a_decoder_without_its_start_token_is_refused_by_name(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}
    path = written(tmp_path, tr.T5ForConditionalGeneration(tr.T5Config(vocab_size=61, **sizes)))
    with pytest.raises(ModelError, match="names no token that its decoder begins with") as caught:
        load_model(ModelSettings(path=path))
    assert caught.value.remedy == "set decoder_start_token_id in config.json"


def test_what_sees_the_future_is_refused_by_whoever_loads_it(tmp_path: Path) -> None:
    path = written(tmp_path, tr.BertLMHeadModel(tr.BertConfig(**ENCODER)))
    with pytest.raises(ModelError, match="is not causal"):
        load_model(ModelSettings(path=path))


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"quantization_config": {"quant_method": "hqq", "quant_config": {}}}, "hqq|HQQ"),
        ({"attn_implementation": "flash_attention_2", "_attn_implementation": "flash_attention_2"}, "FlashAttention2"),
    ],
)
def test_a_package_that_is_not_here_is_one_message(changes: dict[str, Any], package: str, tmp_path: Path) -> None:
    path = written(tmp_path, tiny.llama())
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    with pytest.raises(ModelError, match=f"needs a package that is not here: .*{package}"):
        load_model(ModelSettings(path=path))


def test_an_adapter_whose_base_is_gone_names_both(tmp_path: Path) -> None:
    adapter: Any = tiny.lora(tiny.llama())
    adapter.peft_config["default"].base_model_name_or_path = str(tmp_path / "gone")
    adapter.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    with pytest.raises(ModelError, match=r"is an adapter of .*gone, which is not here") as caught:
        load_model(ModelSettings(path=str(tmp_path / "adapter")))
    assert "base_model_name_or_path" in caught.value.remedy


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@pytest.mark.parametrize(("dtype", "short"), [(torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.float32, "F32")])
def test_what_is_written_has_the_dtype_of_its_base(dtype: torch.dtype, short: str, tied: bool, tmp_path: Path) -> None:
    base = written(tmp_path / "base", tiny.llama(tie_word_embeddings=tied).to(dtype))
    policy, loaded = load_policy(ModelSettings(path=base, precision="float32"))
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(2)  # type: ignore[union-attr, operator]  # an nn.Embedding
    save_policy(policy, loaded.tokenizer, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "out")
    for folder in (tmp_path / "model", tmp_path / "out"):
        assert {*dtypes(folder).values()} == {short}
        assert dtypes(folder).keys() == dtypes(tmp_path / "base").keys()
        again = tr.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
        assert again.dtype == dtype
        expected = {n: p.to(dtype) for n, p in policy.model.named_parameters()}
        assert all(torch.equal(p, expected[n]) for n, p in again.named_parameters())
    assert policy.model.dtype == torch.float32


def test_a_reward_models_head_stays_in_float32(tmp_path: Path) -> None:
    base = written(tmp_path / "base", tiny.llama().to(torch.bfloat16))
    model, loaded = load_reward_model(ModelSettings(path=base, precision="float32"))
    save_policy(model, loaded.tokenizer, tmp_path / "model")
    found = dtypes(tmp_path / "model")
    assert found.pop("score.weight") == "F32"
    assert {*found.values()} == {"BF16"}


def test_an_adapter_is_written_in_float32(tmp_path: Path) -> None:
    base = written(tmp_path / "base", tiny.llama().to(torch.bfloat16))
    policy, loaded = load_policy(ModelSettings(path=base, precision="bfloat16", lora=LoRA(rank=2)))
    save_policy(policy, loaded.tokenizer, tmp_path / "model")
    with safe_open(tmp_path / "model" / "adapter_model.safetensors", framework="pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F32"}  # noqa: SIM118
    export_model(tmp_path / "model", tmp_path / "out")
    assert {*dtypes(tmp_path / "out").values()} == {"BF16"}


def test_broken_weights_are_looked_for_where_there_can_be_some() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = torch.nn.Parameter(torch.arange(3), requires_grad=False)
            self.empty = torch.nn.Parameter(torch.empty(0))
            self.unmade = torch.nn.Parameter(torch.empty(3, device="meta"))
            self.last = torch.nn.Parameter(torch.tensor([1.0, -3e38]))

    model = Odd()
    refuse_broken_weights(model, "here")
    with torch.no_grad():
        model.last[1] = -torch.inf
    with pytest.raises(ModelError) as error:
        refuse_broken_weights(model, "here")
    assert str(error.value) == (
        "here: its weights are damaged: last holds a value that is not finite (NaN or infinite)\n"
        "  → load it again from where it came from, or take a checkpoint from before training diverged"
    )


@pytest.mark.parametrize(
    ("rows", "told"),
    [(8, ""), (7, "1 tokens beyond them: 'h'"), (5, "3 tokens beyond them: 'f', 'g', 'h'"),
     (4, "4 tokens beyond them: 'e', 'f', 'g' and 1 more"), (2, "6 tokens beyond them: 'c', 'd', 'e' and 3 more")],
)  # fmt: skip
def test_tokens_without_an_embedding_are_counted(rows: int, told: str) -> None:
    tokenizer: Any = SimpleNamespace(get_vocab=lambda: {letter: i for i, letter in enumerate("abcdefgh")})
    if not told:
        refuse_ids(tokenizer, rows, "here")
        return
    with pytest.raises(ModelError) as refused:
        refuse_ids(tokenizer, rows, "here")
    assert refused.value.what == f"the model has {rows} embeddings, its tokenizer makes {told}"
    assert refused.value.where == "here"


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (ImportError("no x\nmore"), "needs a package that is not here: no x", "install what it names"),
        (OSError("no file"), "no file", "no folder 'org/m' here: check the path"),
        (ValueError("odd"), "odd", "no folder 'org/m' here"),
        (KeyError("k"), "a file lacks 'k'", "no folder 'org/m' here"),
    ],
)
def test_errors_of_loading_are_one_message(error: Exception, what: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused, readable("org/m"):
        raise error
    assert (refused.value.what, refused.value.where) == (what, "org/m")
    assert refused.value.remedy.startswith(remedy)
    with pytest.raises(ModelError) as local, readable(str(tmp_path)):
        raise OSError("no file")
    assert local.value.remedy == "the folder must hold config.json, *.safetensors and the tokenizer's files"
    with pytest.raises(ZeroDivisionError), readable("org/m"):
        raise ZeroDivisionError
