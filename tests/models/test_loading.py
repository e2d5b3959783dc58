"""Loading by its parts: settings and their bounds, stop tokens, adapters and what is said of each mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from twofold.errors import ModelError
from twofold.models import load
from twofold.models.adapters import LoRA, attach_adapter, base_and_adapter, is_classifier, refuse_classifier
from twofold.models.load import (
    LoadedModel,
    ModelSettings,
    load_model,
    load_policy,
    load_weights,
    model_options,
    resolve_device,
    resolve_precision,
    save_policy,
    weights_digest,
    wrap,
)
from twofold.models.loadable import refuse_ids
from twofold.models.policy import Policy
from twofold.models.tokenizer_files import load_stop_tokens, load_tokenizer, stop_tokens


def written(folder: Path, model: tr.PreTrainedModel | None = None, eos: str = "2") -> str:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = eos
    (model or tiny.llama()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_settings_have_defaults_and_bounds() -> None:
    assert vars(LoRA()) == {
        "rank": 16, "alpha": 32.0, "rslora": False, "dora": False, "targets": "all-linear", "exclude": (),
        "modules_to_save": (),
    }  # fmt: skip
    assert vars(ModelSettings(path="m")) == {
        "path": "m", "revision": None, "precision": "auto", "residual": "auto", "device": "auto", "lora": None,
        "adapter": None,
        "activation_checkpointing": False, "recompute_every": 1, "router_aux_loss_coef": None, "sharing": "auto",
        "add_tokens": (),
        "train_tokens": False, "template_arguments": None, "gguf_file": None, "quantize": None,
    }  # fmt: skip
    assert (LoRA(rank=1).rank, LoRA(alpha=0.1).alpha) == (1, 0.1)
    for wrong, words in (({"rank": 0}, "rank must be ≥ 1"), ({"alpha": 0.0}, "alpha must be > 0")):
        with pytest.raises(ValueError) as error:
            LoRA(**wrong)
        assert str(error.value) == words
    assert ModelSettings(path="m", adapter="a").adapter == "a"
    with pytest.raises(ValueError, match=r"give lora \(a new adapter\) or adapter \(an existing one\), not both"):
        ModelSettings(path="m", lora=LoRA(), adapter="a")


@pytest.mark.parametrize(
    ("device", "available", "want"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device(device: str, available: bool, want: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device(device) == want


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError) as error:
        resolve_device("cuda")
    assert str(error.value) == "model.device: no CUDA device is visible\n  → set model.device to auto or cpu"


@pytest.mark.parametrize(
    ("precision", "device", "capability", "want"),
    [
        ("auto", "cpu", 9, "float32"), ("auto", "cuda", 7, "float32"), ("auto", "cuda", 8, "bfloat16"),
        ("auto", "cuda", 9, "bfloat16"), ("float64", "cuda", 9, "float64"), ("bfloat16", "cpu", 0, "bfloat16"),
    ],
)  # fmt: skip
def test_the_precision(
    precision: str, device: str, capability: int, want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (capability, 0))
    assert resolve_precision(precision, device) == want


@pytest.mark.parametrize(
    ("named", "own", "want"),
    [(None, "3", {3}), (5, None, {5}), (5, "3", {3, 5}), ([5, 6], "3", {3, 5, 6}), ([3], "3", {3}), (0, None, {0})],
)
def test_stop_tokens_are_the_tokenizers_and_the_models(named: Any, own: str | None, want: set[int]) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = own
    assert stop_tokens(tr.GenerationConfig(eos_token_id=named), tokenizer, "here") == want


def test_a_model_that_never_stops_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    for config in (None, tr.GenerationConfig()):
        with pytest.raises(ModelError) as error:
            stop_tokens(config, tokenizer, "here")
        assert str(error.value) == (
            "here: neither tokenizer nor generation config names an end-of-sequence token\n"
            "  → set eos_token in tokenizer_config.json"
        )
    tokenizer.eos_token = "4"
    assert load_stop_tokens(str(tmp_path), tokenizer) == {4}
    tr.GenerationConfig(eos_token_id=[7, 8]).save_pretrained(tmp_path)
    assert load_stop_tokens(str(tmp_path), tokenizer) == {4, 7, 8}
    assert load_stop_tokens(str(tmp_path), tokenizer, "main") == {4, 7, 8}


@pytest.mark.parametrize(
    ("precision", "lora", "dtype", "autocast"),
    [
        ("auto", None, torch.float32, None), ("float32", LoRA(rank=2), torch.float32, None),
        ("float64", None, torch.float64, None), ("bfloat16", None, torch.float32, torch.bfloat16),
        ("bfloat16", LoRA(rank=2), torch.bfloat16, torch.bfloat16),
    ],
)  # fmt: skip
def test_weights_are_wide_but_for_a_frozen_base(
    tmp_path: Path, precision: Any, lora: LoRA | None, dtype: torch.dtype, autocast: torch.dtype | None
) -> None:
    settings = ModelSettings(path=written(tmp_path), precision=precision, lora=lora, device="cpu", sharing="rows")
    model = load_weights(settings, settings.path)
    assert {p.dtype for p in model.parameters()} == {dtype}
    options = model_options(settings, model, None)
    assert options == {
        "adapter": None, "autocast": autocast, "cast": None, "sharing": "rows", "activation_checkpointing": False,
        "recompute_every": 1, "router_aux_loss_coef": None,
    }  # fmt: skip
    stored = getattr(model, "twofold_stored_dtype", None)
    assert stored == (None if precision == "float64" else torch.float32)


@pytest.mark.parametrize(
    ("missing", "words"),
    [(1, "lacks weights that a LlamaForCausalLM has: lm_head.weight"),
     (3, "lacks weights that a LlamaForCausalLM has: lm_head.weight and 2 more")],
)  # fmt: skip
def test_weights_that_are_missing_are_counted(tmp_path: Path, missing: int, words: str) -> None:
    path = written(tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model.safetensors")
    for name in ("lm_head.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight")[:missing]:
        del weights[name]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        load_weights(ModelSettings(path=path, device="cpu"), path)
    assert str(error.value) == f"{path}: {words}\n  → the folder is of another model, or damaged: check it"


def test_an_adapter_is_drawn_from_its_seed_with_its_settings(tmp_path: Path) -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        model, state = tiny.llama(), torch.get_rng_state()
        settings = ModelSettings(path="somewhere", lora=LoRA(rank=3, alpha=12.0, targets=("q_proj", "up_proj")))
        adapter = attach_adapter(model, settings, seed)
        assert adapter is not None
        config = adapter.peft_config["default"]
        assert (config.r, config.lora_alpha, config.lora_dropout, config.task_type) == (3, 12.0, 0.0, "CAUSAL_LM")
        assert config.base_model_name_or_path == "somewhere"
        assert config.fan_in_fan_out is False
        assert torch.equal(torch.get_rng_state(), state)
        return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert {n.split(".")[-4] for n in first} == {"q_proj", "up_proj"}
    assert {tuple(p.shape) for n, p in first.items() if "lora_A" in n} == {(3, 32)}
    assert all(torch.equal(p, again[n]) for n, p in first.items())
    assert not all(torch.equal(p, other[n]) for n, p in first.items())
    assert attach_adapter(tiny.llama(), ModelSettings(path="m"), 0) is None


def test_an_adapter_on_all_linear_layers_leaves_the_head(tmp_path: Path) -> None:
    settings = ModelSettings(path=written(tmp_path), precision="float32", lora=LoRA(rank=2))
    policy, loaded = load_policy(settings, seed=4)
    names = {n.split(".lora_")[0].rpartition(".")[2] for n in policy.trainable()}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    same, _ = load_policy(settings, seed=4)
    other, _ = load_policy(settings)
    assert weights_digest(policy.model) == weights_digest(same.model) != weights_digest(other.model)
    assert loaded.stop_tokens == {2}


def test_the_digest_is_of_names_types_shapes_and_bytes() -> None:
    layer = torch.nn.Linear(2, 3)
    first = weights_digest(layer)
    assert first == weights_digest(layer) != weights_digest(layer, "begin")
    with torch.no_grad():
        layer.weight[0, 0] += 1
    assert weights_digest(layer) != first
    plain = torch.nn.ParameterDict({"w": torch.zeros(2, 3)})
    digests = {
        weights_digest(torch.nn.ParameterDict(d))
        for d in ({"w": torch.zeros(2, 3)}, {"v": torch.zeros(2, 3)}, {"w": torch.zeros(3, 2)},
                  {"w": torch.zeros(2, 3).double()[:, :]}, {"w": torch.zeros(2, 3).int().float() - 0.0})
    }  # fmt: skip
    assert len(digests) == 4
    nested = torch.nn.ModuleDict({"reference": torch.nn.Linear(1, 1), "default": torch.nn.Linear(1, 1)})
    outer = torch.nn.ModuleDict({"a": nested})
    before = weights_digest(outer)
    with torch.no_grad():
        nested["reference"].weight.add_(1)
    assert weights_digest(outer) == before
    assert weights_digest(plain) in digests


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    written(tmp_path / "base")
    settings = ModelSettings(path=str(tmp_path / "base"), precision="float32", lora=LoRA(rank=2))
    policy, loaded = load_policy(settings)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
    save_policy(policy, loaded.tokenizer, tmp_path / "adapter")
    return str(tmp_path / "adapter")


def test_an_adapters_folder_is_its_base_and_itself(adapter: str, tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    assert base_and_adapter(adapter) == (base, adapter)
    assert base_and_adapter(base) == (base, None)
    assert base_and_adapter("someone/model") == ("someone/model", None)
    groups = tiny.pairs(2)
    merged = Policy(load_model(ModelSettings(path=adapter, precision="float32")).model).logps(groups)
    going_on, _ = load_policy(ModelSettings(path=base, adapter=adapter, precision="float32"))
    plain, _ = load_policy(ModelSettings(path=base, precision="float32"))
    for a, b, c in zip(merged, going_on.logps(groups), plain.logps(groups), strict=True):
        torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-4)
        assert (a[0] - c[0]).abs().max() > 1e-2
    assert going_on.adapter is not None
    assert set(going_on.adapter.peft_config) == {"default", "reference"}
    assert all(".default." in n for n in going_on.trainable())
    assert not any(".reference." in n and p.requires_grad for n, p in going_on.model.named_parameters())


def test_an_adapter_reads_its_own_tokenizer_or_else_its_bases(adapter: str, tmp_path: Path) -> None:
    own = tr.AutoTokenizer.from_pretrained(adapter)
    own.eos_token = "9"
    own.save_pretrained(adapter)
    (Path(adapter) / "twofold-manifest.json").unlink()
    assert load_model(ModelSettings(path=adapter)).stop_tokens == {9}
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (Path(adapter) / name).unlink()
    assert load_model(ModelSettings(path=adapter)).stop_tokens == {2}


def test_an_adapter_without_a_base_is_refused(adapter: str) -> None:
    config = Path(adapter) / "adapter_config.json"
    (Path(adapter) / "twofold-manifest.json").unlink()
    listed = json.loads(config.read_text())
    config.write_text(json.dumps({**listed, "base_model_name_or_path": None}))
    with pytest.raises(ModelError) as error:
        base_and_adapter(adapter)
    assert str(error.value).splitlines() == [
        f"{adapter}: the adapter does not name its base model",
        "  → write base_model_name_or_path into its adapter_config.json",
    ]
    config.write_text(json.dumps({**listed, "base_model_name_or_path": "/gone/away"}))
    with pytest.raises(ModelError) as error:
        base_and_adapter(adapter)
    assert str(error.value) == (
        f"{adapter}: is an adapter of /gone/away, which is not here\n"
        "  → put its base model back there, or correct base_model_name_or_path in adapter_config.json"
    )
    with pytest.raises(ModelError) as error:
        load_policy(ModelSettings(path=str(Path(adapter).parent / "base"), adapter="/gone/away"))
    assert str(error.value) == (
        "/gone/away: is no folder of a PEFT adapter\n"
        "  → name a folder with adapter_config.json and adapter_model.safetensors"
    )


def test_a_classifier_is_known_by_its_architecture(tmp_path: Path) -> None:
    tr.LlamaConfig(**tiny.DECODER, architectures=["LlamaForSequenceClassification"]).save_pretrained(tmp_path / "a")
    tr.LlamaConfig(**tiny.DECODER).save_pretrained(tmp_path / "b")
    assert [is_classifier(str(tmp_path / name)) for name in ("a", "b", "absent")] == [True, False, False]
    refuse_classifier(str(tmp_path / "b"))
    with pytest.raises(ModelError) as error:
        refuse_classifier(str(tmp_path / "a"))
    assert str(error.value) == (
        f"{tmp_path / 'a'}: is a reward model, not a language model: it scores answers and cannot write them\n"
        "  → name a language model; `twofold score` and `data build` take this one as --judge reward:FOLDER"
    )


@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_saved_takes_the_place_of_what_stood_there(tmp_path: Path, sealed: bool) -> None:
    for path in ("out", "out.tmp"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "old").write_text("old")
    policy = tiny.policy(dtype=torch.float32)
    save_policy(policy, tiny.tokenizer(), tmp_path / "out", sealed=sealed)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert ("twofold-manifest.json" in names) == sealed
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert "old" not in names
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_tokenizer_is_compared_with_the_config_alone(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert load_tokenizer(path).eos_token == "2"
    config = tmp_path / "config.json"
    listed = json.loads(config.read_text())
    for size, fine in ((61, True), (60, False)):
        config.write_text(json.dumps({**listed, "vocab_size": size}))
        if fine:
            load_tokenizer(path)
            continue
        with pytest.raises(
            ModelError, match="the model has 60 embeddings, its tokenizer makes 1 tokens beyond them: '60'"
        ):
            load_tokenizer(path)
    config.unlink()
    assert load_tokenizer(path).eos_token == "2"


@pytest.mark.parametrize(
    ("rows", "told"),
    [(60, "1 tokens beyond them: '60'"), (58, "3 tokens beyond them: '58', '59', '60'"),
     (56, "5 tokens beyond them: '56', '57', '58' and 2 more")],
)  # fmt: skip
def test_tokens_without_an_embedding_are_named(rows: int, told: str) -> None:
    refuse_ids(tiny.tokenizer(), 61, "here")
    with pytest.raises(ModelError) as error:
        refuse_ids(tiny.tokenizer(), rows, "here")
    assert str(error.value) == (
        f"here: the model has {rows} embeddings, its tokenizer makes {told}\n"
        "  → load it with transformers, call model.resize_token_embeddings(len(tokenizer)) and save both again"
    )


def test_a_tokenizer_and_a_model_belong_together_wherever_they_come_from() -> None:
    model, tokenizer = tiny.llama(), tiny.tokenizer()
    LoadedModel(model, tokenizer, frozenset({2}))
    tokenizer.add_tokens(["<more>"])
    for name in ("here", ""):
        model.name_or_path = name
        with pytest.raises(
            ModelError, match="61 embeddings, its tokenizer makes 1 tokens beyond them: '<more>'"
        ) as error:
            LoadedModel(model, tokenizer, frozenset({2}))
        assert error.value.where == name


def test_a_model_in_memory_is_held_as_its_settings_say() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = "2"
    model = tiny.llama()
    settings = ModelSettings(path="m", precision="bfloat16", sharing="rows", device="cpu")
    policy, loaded = wrap(settings, model, tokenizer)
    assert (policy.autocast, policy.shared, policy.model, loaded.stop_tokens) == (torch.bfloat16, False, model, {2})
    assert load.REFERENCE_ADAPTER == "reference"
    first, _ = wrap(ModelSettings(path="m", lora=LoRA(rank=2)), tiny.llama(), tokenizer, 3)
    again, _ = wrap(ModelSettings(path="m", lora=LoRA(rank=2)), tiny.llama(), tokenizer, 3)
    other, _ = wrap(ModelSettings(path="m", lora=LoRA(rank=2)), tiny.llama(), tokenizer)
    assert weights_digest(first.model) == weights_digest(again.model) != weights_digest(other.model)


@pytest.mark.parametrize("configured", [True, False])
def test_a_folder_that_transformers_cannot_read(tmp_path: Path, configured: bool) -> None:
    if configured:
        tr.LlamaConfig(**tiny.DECODER).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as error:
        load_model(ModelSettings(path=str(tmp_path)))
    remedy = "the folder must hold config.json, *.safetensors and the tokenizer's files"
    assert (error.value.where, error.value.remedy) == (str(tmp_path), remedy)
    assert "\n" not in error.value.what


def test_a_name_that_is_not_here_is_looked_for_and_told() -> None:
    with pytest.raises(ModelError) as error:
        load_weights(ModelSettings(path="someone/absent", device="cpu"), "someone/absent")
    assert error.value.where == "someone/absent"
    assert error.value.remedy == "no folder 'someone/absent' here: check the path, or the hub name and your connection"
