"""What is read from the files of a model before its weights are, and what becomes of its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor

from twofold.models.parts import _divide
from twofold.models.stored import casts, dtype_on_disk
from twofold.models.tokenizer_files import mark_by_adapter, plain_config

DECODER = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 9}
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast"}


def folder(path: Path, config: dict[str, Any], tokenizer: dict[str, Any] | None = None) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if tokenizer is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "tokenizer", "plain"),
    [
        ({}, {}, True),
        ({"is_encoder_decoder": True}, {}, True),  # by its architecture it decodes only
        ({"is_encoder_decoder": False, "architectures": ["LlamaModel"]}, {}, True),
        ({"is_encoder_decoder": False, "architectures": None}, {}, True),
        ({"architectures": None}, {}, False),
        ({"architectures": []}, {}, False),
        ({"architectures": ["LlamaForCausalLM", "LlamaModel"]}, {}, False),
        ({"model_type": "t5", "is_encoder_decoder": False}, {}, False),
        ({"model_type": "no-such-type"}, {}, False),
        ({"vocab_size": True}, {}, False),
        ({"vocab_size": "9"}, {}, False),
        ({"vocab_size": 9.0}, {}, False),
        ({"text_config": None}, {}, False),
        ({"auto_map": {}}, {}, False),
        ({}, {"auto_map": {}}, False),
        ({}, {"tokenizer_class": ["a"]}, False),
    ],
)
def test_when_the_files_are_enough_for_a_tokenizer(
    changes: dict[str, Any], tokenizer: dict[str, Any], plain: bool, tmp_path: Path
) -> None:
    path = folder(tmp_path, DECODER | changes, TOKENIZER | tokenizer)
    found = plain_config(path)
    assert (found is not None) is plain
    assert found is None or found.vocab_size == 9


@pytest.mark.parametrize(
    ("dtypes", "want"),
    [
        ([torch.float16, torch.bfloat16], torch.float16),
        ([torch.bfloat16, torch.float16], torch.bfloat16),
        ([torch.float64], torch.float64),
        ([torch.float32, torch.float16], torch.float32),
        ([torch.int8, torch.float16], torch.float32),
        ([], torch.float32),
    ],
)
def test_without_a_dtype_in_the_config_the_first_file_has_it(
    dtypes: list[torch.dtype], want: torch.dtype, tmp_path: Path
) -> None:
    """The first by name, whenever it was written."""
    path = folder(tmp_path, DECODER)
    for number, dtype in reversed([*enumerate(dtypes)]):
        save_file({"w": torch.ones(2, dtype=dtype)}, tmp_path / f"{number}.safetensors")
    assert dtype_on_disk(path, None) == want
    folder(tmp_path, DECODER | {"dtype": "float64"})
    assert dtype_on_disk(path, None) == torch.float64


def test_which_weights_are_not_converted() -> None:
    """A score head, what transformers has wide, and whole numbers: by a part of the name, not by how it begins."""
    model: Any = nn.Linear(1, 1)
    model._keep_in_fp32_modules, model._keep_in_fp32_modules_strict = ["router"], {"norm"}
    cast = casts(model, torch.bfloat16)
    names = ["score.weight", "a.router.weight", "norm.weight", "routers.weight", "scored.weight", "a.w"]
    dtypes = [cast(name, torch.ones(1)).dtype for name in names]
    assert dtypes == [torch.float32] * 3 + [torch.bfloat16] * 3
    assert cast("a.w", torch.arange(2)).dtype == torch.int64
    plain: Any = nn.Linear(1, 1)
    plain._keep_in_fp32_modules = None
    assert casts(plain, torch.float16)("norm.weight", torch.ones(1)).dtype == torch.float16


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ('{"task_type": "SEQ_2_SEQ_LM"}', True), ('{"task_type": "CAUSAL_LM"}', False), ("{}", False), ("{", None),
        ("[1]", None), (None, None),
    ],
)  # fmt: skip
def test_an_adapter_names_whether_prompts_are_encoded(text: str | None, marked: bool | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
    tokenizer: Any = nn.Identity()
    before = {*vars(tokenizer)}
    mark_by_adapter(tokenizer, tmp_path)
    assert [vars(tokenizer)[name] for name in {*vars(tokenizer)} - before] == ([] if marked is None else [marked])


@pytest.mark.usefixtures("group_of_one")
def test_tied_weights_stay_one_part_and_frozen_ones_frozen() -> None:
    model: Any = nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3, bias=False), nn.Linear(3, 2))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    _divide(model, "shard", "cpu")
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert model[1].weight is model[0].weight
    assert model[1].bias is None
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]
    assert [tuple(p.shape) for p in model.parameters()] == [(3, 2), (3,), (2, 3), (2,)]
