"""Names and folders of models: what is one, which of its files are fit to be read, how large it is, in which dtype."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr
from safetensors.torch import load_file, save_file

from support import tiny
from twofold import manifest
from twofold.errors import ModelError
from twofold.models import integrity
from twofold.models.adapters import LoRA
from twofold.models.export import export_model
from twofold.models.integrity import check_folder, header
from twofold.models.load import ModelSettings
from twofold.models.locate import is_adapter, model_folder, model_path, refuse_missing, tokenizer_path
from twofold.models.model_size import model_size
from twofold.models.stored import dtype_on_disk, remember_dtype, save_weights, stored_dtype


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path.parent


def test_a_run_is_its_model_and_a_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = touched(tmp_path / "run/model/config.json").parent
    adapter = touched(tmp_path / "adapter/adapter_config.json")
    both = touched(touched(tmp_path / "both/model/adapter_config.json").parent / "config.json")
    assert model_folder(run) == run / "model"
    assert model_folder(adapter) == adapter
    assert model_folder(both) == both / "model"
    assert model_folder(run / "model") == run / "model"
    assert model_path(str(run)) == str(run / "model")
    monkeypatch.chdir(tmp_path)
    assert model_path("someone/model") == "someone/model"
    assert [is_adapter(folder) for folder in (adapter, run / "model", tmp_path)] == [True, False, False]


def test_a_run_has_its_tokenizer_with_its_model_unless_beside_it(tmp_path: Path) -> None:
    run = touched(tmp_path / "run/model/config.json").parent
    assert tokenizer_path(str(run)) == str(run / "model")
    assert tokenizer_path(str(run / "model")) == str(run / "model")
    assert tokenizer_path("someone/model") == "someone/model"
    touched(run / "tokenizer_config.json")
    assert tokenizer_path(str(run)) == str(run)


@pytest.mark.parametrize(
    ("name", "what"), [("empty", "holds neither a model nor an adapter"), ("absent", "no such folder")]
)
def test_what_holds_no_model_is_refused(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "empty" / "model").mkdir(parents=True)
    with pytest.raises(ModelError) as error:
        model_folder(tmp_path / name)
    assert str(error.value) == (
        f"{tmp_path / name}: {what}\n"
        "  → name a run directory with model/, or a folder with config.json, adapter_config.json or a GGUF file"
    )


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("model", None), ("someone/model", None), ("here", None), ("./here", None), ("here/is/one", None),
        ("file", "is a file, not a model"), ("./absent", "no such folder"), ("/absent", "no such folder"),
        ("~/absent", "no such folder"), ("not/a/hub", "no such folder"), ("../absent", "no such folder"),
    ],
)  # fmt: skip
def test_what_can_only_be_a_folder_is_looked_for_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here/is/one").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    if fault is None:
        refuse_missing(name)
        return
    with pytest.raises(ModelError) as error:
        refuse_missing(name)
    remedy = "name the folder that holds config.json" if "file" in fault else "check the path"
    assert (error.value.what, error.value.where, error.value.remedy) == (fault, name, remedy)


def raw(length: int, text: bytes, rest: bytes = b"") -> bytes:
    return length.to_bytes(8, "little") + text + rest


TENSOR = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (raw(2, b"{}"), {}),
        (raw(len(TENSOR), TENSOR, b"\0" * 8), json.loads(TENSOR)),
        (raw(22, b'{"__metadata__": null}'), {"__metadata__": None}),
        (raw(len(TENSOR), TENSOR, b"\0" * 7), None),
        (raw(len(TENSOR), TENSOR, b"\0" * 9), None),
        (raw(2, b"{}", b"\0"), None),
        (raw(1, b"1"), None),
        (raw(3, b"{}"), None),
        (raw(2, b"{}")[:7], None),
        (raw(2, b"[]"), None),
        (raw(2, b"{{"), None),
        (raw(8, b'{"w": 1}'), None),
        (raw(21, b'{"w":{"data_offsets":'[:21]), None),
        (raw(24, b'{"w":{"data_offsets":[]}', b""), None),
        (raw(100_000, b"[" * 100_000), None),
    ],
)
def test_a_header_says_what_the_file_has(tmp_path: Path, data: bytes, known: dict[str, Any] | None) -> None:
    (tmp_path / "w").write_bytes(data)
    assert header(tmp_path / "w") == known
    assert header(tmp_path / "absent") is None


def test_a_header_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w").write_bytes(raw(10, b"{}" + b" " * 8))
    assert integrity.MOST_HEADER == 100_000_000
    for most, want in ((10, {}), (9, None)):
        monkeypatch.setattr(integrity, "MOST_HEADER", most)
        assert header(tmp_path / "w") == want


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (["config.json"], None),
        (["pytorch_model.bin", "model.safetensors"], None),
        (["pytorch_model.bin", "other.safetensors"], None),
        (["training_args.bin"], None),
        (["a.ckpt", "b.pt"], "holds its weights as a pickle (a.ckpt), which can run code when it is read"),
        (["model.pkl", "adapter_config.json", "model.safetensors"], "holds its weights as a pickle (model.pkl)"),
        (["adapter_model.bin", "adapter_config.json", "adapter_model.safetensors"], None),
        (["model-00001-of-00002.safetensors", "model-00002-of-00002.bad"], None),
    ],
)
def test_weights_are_no_pickle(tmp_path: Path, files: list[str], fault: str | None) -> None:
    for name in files:
        if name.endswith(".safetensors"):
            save_file({"w": torch.ones(2)}, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(b"{}" if name.endswith(".json") else b"x")
    if fault is None:
        check_folder(str(tmp_path))
        return
    with pytest.raises(ModelError) as error:
        check_folder(str(tmp_path))
    assert error.value.what.startswith(fault)
    safe = "adapter_model.safetensors" if "adapter_config.json" in files else "model.safetensors"
    assert error.value.remedy == f"convert it to safetensors where you trust it, and put {safe} here"
    check_folder(str(tmp_path), weights=False)
    check_folder("someone/model")


@pytest.mark.parametrize(
    ("name", "looked_at"),
    [
        ("model.safetensors", True), ("adapter_model.safetensors", True), ("model-00002-of-00003.safetensors", True),
        ("other.safetensors", False), ("my_model.safetensors", False), ("model.safetensors.bak", False),
    ],
)  # fmt: skip
def test_which_files_are_weights(tmp_path: Path, name: str, looked_at: bool) -> None:
    (tmp_path / name).write_bytes(b"no safetensors")
    if not looked_at:
        check_folder(str(tmp_path))
        return
    with pytest.raises(ModelError) as error:
        check_folder(str(tmp_path))
    assert error.value.what == f"{name} is no safetensors file, or damaged"
    assert (error.value.where, error.value.remedy) == (str(tmp_path), "download or write it again")


def configured(folder: Path, config: tr.PreTrainedConfig) -> str:
    config.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("lora", "added"),
    [
        # Two layers of width 32 and 40, keys and values of width 16: q 64, k 48, v 48, o 64, gate, up and down 72 each.
        (None, 0),
        (LoRA(rank=2), 2 * 2 * (64 + 48 + 48 + 64 + 3 * 72)),
        (LoRA(rank=3, targets=("q_proj", "down_proj")), 3 * 2 * (64 + 72)),
        (LoRA(rank=1, targets=["v_proj"]), 2 * 48),  # type: ignore[arg-type]  # as a recipe has it
    ],
)
def test_sizes_by_hand(tmp_path: Path, lora: LoRA | None, added: int) -> None:
    path = configured(tmp_path, tr.LlamaConfig(**tiny.DECODER))
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 40 + 2 * 32
    whole = 2 * 61 * 32 + 2 * layer + 32
    found = model_size(ModelSettings(path=path, lora=lora))
    sizes = (found.parameters, found.trainable, found.layers, found.hidden, found.vocabulary)
    assert sizes == (whole + added, added or whole, 2, 32, 61)
    assert (found.cached, found.quantized) == (2 * 2 * 16, 0)
    assert sum(shape.numel() for shape, _ in found.shapes) == found.trainable
    assert [shape for shape, aside in found.shapes if aside] == ([] if added else [(61, 32)] * 2)


def test_sizes_of_one_with_transposed_layers(tmp_path: Path) -> None:
    """GPT-2's layers are Conv1D: of width 32, c_attn to 96, c_proj of 32, c_fc to 128, c_proj of 128."""
    config = tr.GPT2Config(**tiny.SPECIAL, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    found = model_size(ModelSettings(path=configured(tmp_path, config), lora=LoRA(rank=2)))
    assert found.trainable == 2 * 2 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("named", [True, False])
def test_the_dtype_on_disk_is_the_configs_or_else_the_first_tensors(
    tmp_path: Path, dtype: torch.dtype, named: bool
) -> None:
    tiny.llama().to(dtype).save_pretrained(tmp_path)
    if not named:
        config = json.loads((tmp_path / "config.json").read_text())
        del config["dtype"]
        (tmp_path / "config.json").write_text(json.dumps(config))
    assert dtype_on_disk(str(tmp_path), None) == dtype


def test_without_weights_the_dtype_is_float32(tmp_path: Path) -> None:
    config = tr.LlamaConfig(**tiny.DECODER)
    assert dtype_on_disk(configured(tmp_path, config), None) == torch.float32


def test_what_a_model_was_stored_in_is_remembered(tmp_path: Path) -> None:
    model = tiny.llama().double()
    assert stored_dtype(model) == torch.float64
    remember_dtype(model, torch.bfloat16)
    assert stored_dtype(model) == torch.bfloat16
    assert model.dtype == torch.float64


def test_weights_are_cast_but_for_a_score_and_what_stays_wide(tmp_path: Path) -> None:
    model: Any = tiny.llama(tie_word_embeddings=True)
    model.register_buffer("count", torch.arange(3))
    model._keep_in_fp32_modules = ["norm"]
    model._keep_in_fp32_modules_strict = {"k_proj"}
    save_weights(model, tmp_path, torch.bfloat16)
    found = {name: value.dtype for name, value in load_file(tmp_path / "model.safetensors").items()}
    wide = {"model.norm.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.weight"}
    assert {name for name, dtype in found.items() if dtype == torch.float32} == wide
    assert found["count"] == torch.int64
    assert ("model.embed_tokens.weight" in found) != ("lm_head.weight" in found)
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text)["dtype"] == "bfloat16"
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    tiny.llama().to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("dtype", "written"),
    [("auto", torch.bfloat16), ("float32", torch.float32), ("float16", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_an_export_is_in_the_dtype_that_is_asked_for(model: Path, tmp_path: Path, dtype: Any, written: Any) -> None:
    (tmp_path / "out").mkdir()  # an empty folder is no harm
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "left").write_text("by a killed one")
    export_model(model, tmp_path / "out", dtype)
    assert {value.dtype for value in load_file(tmp_path / "out" / "model.safetensors").values()} == {written}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]
    assert not (tmp_path / "out" / "left").exists()


def as_file(path: Path) -> None:
    path.write_text("mine")


def as_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def as_full(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("mine")


@pytest.mark.parametrize("make", [as_file, as_link, as_full])
def test_an_export_overwrites_nothing(model: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out")
    with pytest.raises(ModelError) as error:
        export_model(model, tmp_path / "out")
    assert str(error.value) == f"{tmp_path / 'out'}: already exists\n  → name a folder that does not exist"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "out"]


def test_without_weights_all_other_files_of_a_manifest_are_checked(tmp_path: Path) -> None:
    """A tokenizer is read without hashing gigabytes."""
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    manifest.write(tmp_path)
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    check_folder(str(tmp_path), weights=False)
    with pytest.raises(ModelError, match=r"^.*model\.safetensors .*: it is not what was written"):
        check_folder(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ModelError, match=r"tokenizer\.json .*: it is not what was written"):
        check_folder(str(tmp_path), weights=False)
