"""docs/architectures.md: what the trial at load finds of every language model that transformers knows.

`python scripts/make_architecture_page.py` writes it (some minutes of one core); names of types print their lines alone.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architectures.md"
HEAD = """# Which architectures share prompts

twofold computes a shared prompt once for most architectures. The others are computed as separate rows, which is
correct and slower, or are refused.

Made by `python scripts/make_architecture_page.py`: a small copy of each type's default config (with the changes in
brackets) is tested as every model is at load ([the tests](models.md)).

- **shared**: a pack has each prompt once for all its completions, and gives the log-probabilities of separate rows.
- **rows**: every completion is a row with its prompt.
- **refused**: one message, and no training.
- *positions*, "learned": a row longer than the config's positions is refused by name. "own": rows of different lengths
  never share a call.

Transformers {version}.

{counts}

| type | prompts | why | positions |
|---|---|---|---|
"""

ENCODED_HEAD = """
## Encoders with a decoder

**shared**: the encoder reads a prompt once for all its completions. **rows**: once for each of them.

| type | prompts | why | positions |
|---|---|---|---|
"""

_SMALL: Mapping[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
_MAMBA: Mapping[str, Any] = {
    **_SMALL, "num_key_value_heads": 4, "intermediate_size": 48, "mamba_n_heads": 8, "mamba_d_head": 16,
    "mamba_d_state": 16,
}  # fmt: skip
_DECODER: Mapping[str, Any] = {"is_decoder": True}
_START: Mapping[str, Any] = {"decoder_start_token_id": 0}
_ROPE: Mapping[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
CHANGES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "bamba": ({**_MAMBA, "attn_layer_indices": [1]},),
    "bert": ({}, _DECODER),
    "roberta": ({}, _DECODER),
    "cohere_compass_text": ({"rope_parameters": {"full_attention": _ROPE}},),
    "deepseek_v2": ({"num_experts_per_tok": 2},),
    "dots1": ({"n_routed_experts": 8, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_shared_experts": 1},),
    "falcon": ({}, {"alibi": True}, {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "granite": ({}, {"logits_scaling": 8.0}),
    "granitemoehybrid": ({**_MAMBA, "layer_types": ["mamba", "attention"], "num_local_experts": 4},),
    "hunyuan_v1_dense": ({"head_dim": 64},),
    "hunyuan_v1_moe": ({"head_dim": 64},),
    "lfm2_moe": ({"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2, "num_dense_layers": 1},),
    "llama": ({}, {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}}),
    "mamba2": ({"hidden_size": 64, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 16, "n_groups": 1},),
    "ministral": ({"head_dim": 64},),
    "nemotron": ({"num_key_value_heads": 8},),
    "reformer": (_DECODER,),
    "rwkv": ({"hidden_size": 64, "num_hidden_layers": 2},),
    "xmod": ({**_DECODER, "default_language": "en_XX"},),
    "zamba2": (
        {**_SMALL, "num_hidden_layers": 3, "n_mamba_heads": 8, "layers_block_type": ["mamba", "hybrid", "mamba"]},
    ),
    "xlstm": ({"hidden_size": 64, "num_blocks": 2, "num_heads": 2},),
}
"""Of a type, configs beside or instead of its default: what a default leaves open, and what makes a difference."""
STARTS = {"encoder-decoder", "longt5", "mbart", "plbart", "switch_transformers", "t5"}
"""Encoders with a decoder whose default names no token that the decoder begins with."""


@dataclass(frozen=True)
class Line:
    """What is found of one config."""

    label: str
    prompts: str
    why: str
    positions: str = ""

    def __str__(self) -> str:
        return f"| {self.label} | {self.prompts} | {self.why} | {self.positions} |\n"


def lines(kind: str) -> list[Line]:
    """One for each config of a type, as a decoder alone."""
    return [_line(kind, dict(changes), AutoModelForCausalLM) for changes in CHANGES.get(kind, ({},))]


def encoded_line(kind: str) -> Line:
    """Of a type as an encoder with a decoder."""
    return _line(kind, dict(_START) if kind in STARTS else {}, AutoModelForSeq2SeqLM)


def encoded_kinds() -> list[str]:
    """The types that are encoders of text with a decoder."""
    made = {kind: CONFIG_MAPPING[kind] for kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES}
    return sorted(kind for kind, config in made.items() if config().is_encoder_decoder)


def _line(kind: str, changes: Mapping[str, Any], auto: Any) -> Line:
    from twofold.models.policy import LanguageHead
    from twofold.models.small_copy import small_copy
    from twofold.models.trial import findings

    shown = ", ".join(f"{name}: {value}" for name, value in changes.items() if value != _MAMBA.get(name))
    label = f"`{kind}` [{shown}]" if shown else f"`{kind}`"
    try:
        with torch.device("meta"):
            model = auto.from_config(CONFIG_MAPPING[kind](**changes), dtype=torch.float32)
    except Exception as error:  # whatever a class has against its own default
        return Line(label, "not tried", f"its default config makes no model: {_words(str(error) or repr(error))}")
    if small_copy(model) is None:
        return Line(label, "not tried", "no small copy can be made of its default config; a model of it is tried whole")
    found = findings(model, LanguageHead())
    learned = "" if found.spare_positions is None else "learned"
    positions = "own" if found.own_calls or found.row_lengths(model).own_from is not None else learned
    if found.fault:
        return Line(label, "refused", f"it cannot be computed: {_words(found.fault)}")
    if not found.causal:
        return Line(label, "refused", "it is not causal: its log-probabilities depend on later tokens")
    return Line(label, "rows" if found.sharing_note else "shared", _words(found.sharing_note), positions)


def _words(note: str) -> str:
    """A note without what depends on the machine."""
    note = re.sub(r" differ by .*", " differ", note.strip().splitlines()[0] if note.strip() else "")
    return note.replace("|", "\\|")


def page() -> str:
    """The whole page."""
    from transformers import __version__

    found = [line for kind in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) for line in lines(kind)]
    kinds = ("shared", "rows", "refused", "not tried")
    counts = ", ".join(f"{kind} {sum(line.prompts == kind for line in found)}" for kind in kinds)
    head = HEAD.format(version=__version__, counts=f"{len(found)} configs: {counts}.")
    return head + "".join(map(str, found)) + ENCODED_HEAD + "".join(str(encoded_line(kind)) for kind in encoded_kinds())


def main(kinds: Sequence[str]) -> None:
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if kinds:
        print("".join(str(line) for kind in kinds for line in lines(kind)), end="")
        return
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
