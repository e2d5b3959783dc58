"""What a trial tries and how it tells: rows that fit, values in order, words of a refusal; and what a small copy is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tr

from support import tiny
from support.architectures import BY_LENGTH, SWITCH
from support.families import build
from twofold.batch import Group, Role
from twofold.errors import DataError, ModelError, first_line
from twofold.models import small_copy as small
from twofold.models import trial
from twofold.models.attention import LAYOUT_LOST, UnsupportedAttention
from twofold.models.policy import LanguageHead, Policy
from twofold.models.row_lengths import EACH_ITS_OWN, RowLengths
from twofold.models.small_copy import small_copy, windows
from twofold.models.trial import (
    Findings,
    findings,
    in_order,
    know_float64,
    positions,
    refuse_leaks,
    trial_groups,
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"), (ValueError("\n  first \nsecond"), "first "), (KeyError(), "KeyError"),
        (ValueError("  "), "ValueError"),
    ],
)  # fmt: skip
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_values_of_calls_come_back_in_the_order_of_their_branches() -> None:
    groups = tiny.groups((3, 2, 1), (2, 3))
    first, second = torch.tensor([20.0, 30.0, 31.0, 32.0]), torch.tensor([10.0, 11.0])
    found = in_order([(first, [1, 2]), (second, [0])], groups, ends=False)
    assert found.tolist() == [10, 11, 20, 30, 31, 32]
    ends = in_order([(torch.tensor([2.0, 0.0]), [2, 0]), (torch.tensor([1.0]), [1])], groups, ends=True)
    assert ends.tolist() == [0, 1, 2]
    assert in_order([(first, [0])], [], ends=False) is first


@pytest.mark.parametrize(
    ("named", "shapes"),
    [
        (64, [(6, 7, 4), (14, 16, 5), (24, 9, 3), (1, 3)]),
        (39, [(6, 7, 4), (14, 16, 5), (24, 9, 3), (1, 3)]),
        (22, [(3, 3, 2), (7, 8, 2), (12, 4, 1), (1, 1)]),  # half of them: 5 of the positions may be nobody's
        (3, [(1, 1, 1), (1, 1, 1), (2, 1, 1), (1, 1)]),  # 4 of 34 tokens
    ],
)
def test_a_trials_rows_fit_into_the_models_positions(named: int, shapes: list[tuple[int, ...]]) -> None:
    model = tiny.llama(max_position_embeddings=named)
    groups = trial_groups(model)
    assert [(len(g.prompt), *(len(b.tokens) for b in g.branches)) for g in groups] == shapes
    assert {b.role for g in groups for b in g.branches} == {Role.DRAFT}
    assert [g.name for g in groups] == ["trial 0", "trial 1", "trial 2", "trial 3"]
    tokens = torch.cat([t for g in groups for t in (g.prompt, *(b.tokens for b in g.branches))])
    assert int(tokens.max()) < tiny.VOCABULARY
    again = [t for g in trial_groups(model) for t in (g.prompt, *(b.tokens for b in g.branches))]
    assert torch.equal(torch.cat(again), tokens)


def test_one_that_goes_on_beyond_its_positions_is_tried_beyond_them() -> None:
    groups = trial_groups(BY_LENGTH["llama"]())
    assert max(len(g.prompt) + len(b.tokens) for g in groups for b in g.branches) == 33 > SWITCH


@pytest.mark.parametrize(("named", "want"), [(64, 64), (1, 1), (0, None), (-1, None)])
def test_positions_are_those_that_the_config_names(named: int, want: int | None) -> None:
    model = tiny.llama()
    model.config.max_position_embeddings = named
    assert positions(model) == want


def test_findings_are_of_a_model_with_its_config() -> None:
    model = tiny.llama()
    assert Findings() == Findings(fault="", causal=True, own_calls=False, sharing_note="", spare_positions=None)
    assert not Findings().by_mask
    assert Findings(spare_positions=2).most_tokens(model) == 62
    assert Findings(spare_positions=0).most_tokens(model) == 64
    assert Findings().most_tokens(model) is None
    assert Findings().row_lengths(model) == RowLengths()
    assert Findings(own_calls=True).row_lengths(model) == EACH_ITS_OWN
    assert Findings().row_lengths(BY_LENGTH["phi3"]()) == RowLengths((SWITCH,))
    bloom = tr.BloomForCausalLM(tr.BloomConfig(vocab_size=61, hidden_size=32, n_layer=1, n_head=4))
    assert Findings(spare_positions=2).most_tokens(bloom) is positions(bloom) is None


def test_a_refusal_names_the_class_the_place_and_the_way_out() -> None:
    model = tiny.llama()
    model.name_or_path = "here"
    refuse_leaks(model, Findings(), "scores")
    with pytest.raises(ModelError) as error:
        refuse_leaks(model, Findings(fault="no such layer", causal=False), "scores")
    assert str(error.value) == (
        "here: a LlamaForCausalLM cannot be used here: no such layer\n  → choose a causal language model (a decoder)"
    )
    with pytest.raises(ModelError) as error:
        refuse_leaks(model, Findings(causal=False), "scores")
    assert str(error.value) == (
        "here: a LlamaForCausalLM is not causal: its scores depend on the tokens after them, which they would only "
        "repeat\n"
        "  → choose a causal language model (a decoder); of some, is_decoder in config.json makes one"
    )


@pytest.mark.parametrize(("dtype", "eager"), [(torch.float64, True), (torch.float32, False)], ids=str)
def test_experts_are_computed_by_what_knows_float64(dtype: torch.dtype, eager: bool) -> None:
    model = tiny.llama().to(dtype)
    model.config._experts_implementation = "grouped_mm"
    know_float64(model)
    assert (model.config._experts_implementation == "eager") == eager


def test_an_architecture_is_tried_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """By class, head, dtype and config."""
    tried: list[str] = []

    def note(model: tr.PreTrainedModel, head: object) -> Findings:
        tried.append(f"{type(head).__name__} {model.dtype} {model.config.hidden_size}")
        return Findings(sharing_note=f"{len(tried)}")

    class OtherHead(LanguageHead):
        pass

    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(trial, "_tried", note)
    model, wide = tiny.llama(), tiny.llama(hidden_size=64)
    asked = [
        (model, LanguageHead()),
        (tiny.llama(seed=1), LanguageHead()),
        (model, OtherHead()),
        (wide, LanguageHead()),
    ]
    assert [findings(m, head).sharing_note for m, head in asked] == ["1", "1", "2", "3"]
    assert findings(model.double(), LanguageHead()).sharing_note == "4"


def test_distances_and_tolerances() -> None:
    assert trial._distance(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0])) == 2.0
    for odd in (torch.nan, torch.inf, -torch.inf):
        assert trial._distance(torch.tensor([1.0, odd]), torch.tensor([1.0, 2.0])) == torch.inf
    dtypes = (torch.float64, torch.float32, torch.bfloat16)
    assert [trial._tolerance(tiny.llama().to(dtype)) for dtype in dtypes] == [1e-4, 5e-3, 0.15]


def test_a_trial_leaves_the_models_mode() -> None:
    model = tiny.llama()
    for mode in (True, False):
        model.train(mode)
        with trial._evaluating(model):
            assert not model.training
        assert model.training == mode


@pytest.mark.parametrize(("make", "spare"), [(tiny.llama, None), (tiny.gpt2, 0)], ids=["llama", "gpt2"])
def test_how_many_positions_no_row_can_have(make: Callable[[], tr.PreTrainedModel], spare: int | None) -> None:
    assert findings(make(), LanguageHead()).spare_positions == spare


def test_a_table_that_begins_with_two_positions_for_nobody() -> None:
    """RoBERTa counts positions from 2 on, and gives its padding none, so that a row of padding has no end."""
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {**tiny.SPECIAL, "pad_token_id": 1}
    config = tr.RobertaConfig(**special, **sizes, max_position_embeddings=40, is_decoder=True)
    policy = Policy(tiny.sharp(tr.RobertaForCausalLM(config)))
    assert policy.most_tokens == 38
    assert policy.logps(tiny.groups((5, 34)))[0][0].isfinite().all()
    with pytest.raises(DataError, match="39 tokens; the model has learned 38 positions"):
        policy.logps(tiny.groups((5, 35)))


@pytest.mark.parametrize(("window", "noted"), [(None, False), (17, False), (18, True), (70, True)])
def test_a_window_that_no_small_copy_can_try_is_not_shared(
    window: int | None, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the longest row of a trial, 34 tokens, tries a window of the model itself."""
    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(small, "_MOST", 0)
    model = build(tr.MistralForCausalLM, tr.MistralConfig, sliding_window=window, max_position_embeddings=256)
    found = findings(model.double(), LanguageHead())
    note = f"no small copy of it can be made, to try its window of {window} tokens"
    assert found == Findings(sharing_note=note if noted else "")


def test_a_model_that_computes_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(LanguageHead):
        def of_rows(self, model: tr.PreTrainedModel, groups: Sequence[Group]) -> torch.Tensor:
            raise RuntimeError("no rows\nat all")

    assert findings(tiny.llama(), Broken()) == Findings(fault="no rows", sharing_note="it computes no rows")


@pytest.mark.parametrize(
    ("error", "note"), [(UnsupportedAttention("asked for x"), "asked for x"), (KeyError("x"), "a pack fails: 'x'")]
)
def test_why_a_pack_does_not_give_the_values_of_rows(error: Exception, note: str) -> None:
    class Refusing(LanguageHead):
        def of_pack(self, model: tr.PreTrainedModel, hidden_SH: torch.Tensor, target_S: torch.Tensor) -> torch.Tensor:
            raise error

    class Off(LanguageHead):
        def of_pack(self, model: tr.PreTrainedModel, hidden_SH: torch.Tensor, target_S: torch.Tensor) -> torch.Tensor:
            return super().of_pack(model, hidden_SH, target_S) + 0.25

    trial._known.clear()
    model = tiny.llama()
    assert findings(model, Refusing()).sharing_note == note
    trial._known.clear()
    off = findings(model, Off()).sharing_note
    assert off == "shared and separate log-probabilities (nats per token) differ by 0.25"
    trial._known.clear()


@pytest.mark.parametrize(
    ("by_interface", "own_code", "by_mask", "want"),
    [
        ("", False, None, ("", False)),
        ("", True, None, ("", False)),
        ("off", False, None, ("off", False)),
        ("off", True, "", ("", True)),
        ("off", True, "off, too", ("off", False)),
        (LAYOUT_LOST, False, "", ("", True)),
        (LAYOUT_LOST, True, "", ("", True)),
        (LAYOUT_LOST, False, "off", (LAYOUT_LOST, False)),
    ],
)
def test_when_a_layout_goes_by_the_mask(
    by_interface: str, own_code: bool, by_mask: str | None, want: tuple[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the interface fails for a model with attention code of its own, or loses the layout; None: not tried."""
    tried: list[bool] = []

    def note(*arguments: object, by_mask: bool = False) -> str:
        tried.append(by_mask)
        return answers[by_mask]

    answers = {False: by_interface, True: by_mask or ""}
    monkeypatch.setattr(trial, "open_attention", lambda model: own_code)
    monkeypatch.setattr(trial, "_sharing_note", note)
    found = trial._tried(tiny.llama(), LanguageHead())
    assert (found.sharing_note, found.by_mask) == want
    assert tried == ([False] if by_mask is None else [False, True])


# The small copy.


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, []),
        ({"sliding_window": 40}, [40]),
        ({"sliding_window": None}, []),
        ({"attention_window": True}, []),
        ({"window_size": 7, "attention_chunk_size": 9, "index_topk": 3, "window_length": 5}, [3, 7, 9]),
    ],
)
def test_windows_are_what_a_config_says_of_how_far_layers_look_back(fields: dict[str, Any], want: list[int]) -> None:
    config = tr.LlamaConfig(**tiny.DECODER)
    for name, value in fields.items():
        setattr(config, name, value)
    assert sorted(windows(config)) == want


def test_a_copy_is_short_narrow_and_reaches_its_windows() -> None:
    config = tr.MistralConfig(
        vocab_size=5000, hidden_size=256, intermediate_size=900, num_hidden_layers=9, num_attention_heads=8,
        num_key_value_heads=4, sliding_window=4096, max_position_embeddings=32768, bos_token_id=1,
        eos_token_id=[2, 4999], pad_token_id=None,
    )  # fmt: skip
    with torch.device("meta"):
        model = tr.MistralForCausalLM(config)
    before = config.to_dict()
    copied = small_copy(model)
    assert copied is not None
    assert config.to_dict() == before
    own = copied.config
    assert (own.vocab_size, own.hidden_size, own.intermediate_size, own.num_hidden_layers) == (64, 64, 48, 2)
    assert (own.num_attention_heads, own.num_key_value_heads, own.sliding_window) == (2, 1, 8)
    assert (own.max_position_embeddings, own.eos_token_id, own.bos_token_id) == (48, [2, 63], 1)
    assert (type(copied), copied.training, copied.dtype) == (tr.MistralForCausalLM, False, torch.float64)
    assert not any(p.requires_grad for p in copied.parameters())
    again = small_copy(model)
    assert again is not None
    assert all(torch.equal(p, q) for p, q in zip(copied.parameters(), again.parameters(), strict=True))
    matrix = copied.get_parameter("model.layers.0.mlp.up_proj.weight")  # [48, 64]
    assert matrix.std().item() == pytest.approx(1.5 * 48**-0.5, rel=0.05)


def test_a_copy_has_a_layer_of_each_kind_and_the_switch_of_its_factors() -> None:
    config = tr.Gemma2Config(**{**tiny.DECODER, "num_hidden_layers": 8}, sliding_window=4, head_dim=8)
    kinds = ["full_attention"] * 3 + ["sliding_attention"] + ["full_attention"] * 4
    config.layer_types = kinds
    copied = small_copy(tr.Gemma2ForCausalLM(config))
    assert copied is not None
    assert (copied.config.num_hidden_layers, copied.config.sliding_window) == (3, 4)
    assert copied.config.layer_types == ["full_attention", "full_attention", "sliding_attention"]
    long = small_copy(BY_LENGTH["phi3"]())
    assert long is not None
    assert long.config.rope_parameters["original_max_position_embeddings"] == small.SWITCH == 20
    assert long.config.original_max_position_embeddings == 20
    dynamic = small_copy(BY_LENGTH["llama"]())
    assert dynamic is not None
    assert dynamic.config.max_position_embeddings == 20


def test_few_experts_and_heads_that_share_as_before() -> None:
    model = build(
        tr.MixtralForCausalLM, tr.MixtralConfig, num_local_experts=40, num_experts_per_tok=2, num_key_value_heads=4
    )
    copied = small_copy(model)
    assert copied is not None
    assert (copied.config.num_local_experts, copied.config.num_key_value_heads) == (16, 2)
    assert copied.config._experts_implementation == "eager"


def test_a_copy_leaves_the_random_state_and_the_log_alone() -> None:
    model, state, verbosity = tiny.llama(), torch.get_rng_state(), tr.logging.get_verbosity()
    assert small_copy(model) is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert tr.logging.get_verbosity() == verbosity


def test_what_cannot_be_small_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.llama()
    copied = small_copy(model)
    assert copied is not None
    size = sum(p.numel() for p in copied.parameters())
    for most, made in ((size, True), (size - 1, False)):
        monkeypatch.setattr(small, "_MOST", most)
        assert (small_copy(model) is not None) == made


def test_the_first_dtype_that_the_layers_know(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = small_copy(tiny.llama(), (torch.bfloat16, torch.float64))
    assert copied is not None
    assert copied.dtype == torch.bfloat16
    spoken: list[torch.dtype] = []

    def only_float32(model: tr.PreTrainedModel) -> bool:
        spoken.append(model.dtype)
        return model.dtype == torch.float32

    monkeypatch.setattr(small, "_is_finite", only_float32)
    copied = small_copy(tiny.llama())
    assert copied is not None
    assert copied.dtype == torch.float32
    assert spoken == [*[torch.float64] * 3, torch.float32]  # of 2 heads, of 4, then as wide as it is


@pytest.mark.parametrize("takes", [True, False])
def test_a_pack_that_fails_shows_its_first_line_or_by_what_the_model_lacks(
    takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any, **how: Any) -> Any:
        raise RuntimeError("no\nreason")

    def forward(input_ids: Any, position_ids: Any) -> None: ...

    def without(input_ids: Any) -> None: ...

    model, groups = tiny.llama(), tiny.groups((3, 2))
    before = model.config._attn_implementation
    monkeypatch.setattr(trial, "pack_hidden", fails)
    monkeypatch.setattr(trial, "backbone", lambda model: SimpleNamespace(forward=forward if takes else without))
    note = trial._sharing_note(model, LanguageHead(), groups, (RowLengths(), torch.zeros(2)))
    lacks = "it takes no positions, so that no completion can begin where its prompt ends"
    assert note == ("a pack fails: no" if takes else lacks)
    assert model.config._attn_implementation == before
