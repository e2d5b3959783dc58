"""A frozen copy of an adapter, beside it in the same model: what a policy with an adapter is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from twofold.models.load import REFERENCE_ADAPTER

if TYPE_CHECKING:
    from peft import PeftModel


def copy_adapter(adapter: PeftModel) -> None:
    """Make a frozen copy of the adapter that is trained. It is called REFERENCE_ADAPTER; an adapter of that name is
    overwritten."""
    named = dict(adapter.base_model.named_parameters())
    if REFERENCE_ADAPTER not in adapter.peft_config:
        flags = {name: p.requires_grad for name, p in named.items()}
        with torch.random.fork_rng():  # its first weights are drawn, then overwritten
            adapter.add_adapter(REFERENCE_ADAPTER, adapter.peft_config["default"])
        for name, flag in flags.items():
            named[name].requires_grad_(flag)
    with torch.no_grad():
        for copied, mine in adapter_pairs(adapter).values():
            copied.requires_grad_(False).copy_(mine)


def adapter_pairs(adapter: PeftModel) -> dict[str, tuple[Tensor, Tensor]]:
    """Name → (copied, trained) of each weight of the adapter that is trained, as they are now."""
    named = dict(adapter.base_model.named_parameters())
    trained = {name: p for name, p in named.items() if ".default." in f"{name}." and p.requires_grad}
    place = {name: f"{name}.".replace(".default.", f".{REFERENCE_ADAPTER}.").removesuffix(".") for name in trained}
    return {name: (named[place[name]], mine) for name, mine in trained.items()}
