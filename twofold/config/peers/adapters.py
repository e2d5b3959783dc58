"""LoRA and quantized bases, under the names that each trainer gives them."""

from __future__ import annotations

from collections.abc import Mapping

from twofold.config.peers.reader import Reader

NO_DROPOUT = "LoRA has no dropout: a policy with dropout differs from its reference at the first step"


def read_lora(reader: Reader, names: Mapping[str, str], *, whole: tuple[str, ...] = ("all-linear", "all")) -> None:
    """Write `model.lora`. `names` maps keys of the trainer to keys of `model.lora`; `whole` means all linear layers."""
    reader.set("model.lora", {})
    for key, path in names.items():
        if path == "targets":
            targets = reader.words(key)
            if targets:
                reader.set("model.lora.targets", "all-linear" if targets in [[word] for word in whole] else targets)
        elif path == "modules_to_save":
            if modules := reader.words(key):
                reader.set("model.lora.modules_to_save", modules)
        else:
            reader.carry(key, f"model.lora.{path}", float if path == "alpha" else lambda value: value)
    reader.lose("lora_dropout", NO_DROPOUT, (0, 0.0))


def read_bits(reader: Reader, four: bool, eight: bool) -> None:
    """Write `model.quantize`."""
    if four:
        reader.set("model.quantize", "nf4")
        reader.lose("bnb_4bit_quant_type", "4-bit weights are nf4", ("nf4",))
    elif eight:
        reader.set("model.quantize", "int8")
    reader.skip("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage", "bnb_4bit_compute_dtype")
