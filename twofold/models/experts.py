"""Mixtures of experts: where their routers send tokens. The load-balancing loss (Fedus et al. 2022, Switch Transformer,
arXiv:2101.03961, equations 4 to 6) is computed over all layers at once, as in transformers.

Tokens count as in separate rows: a prompt once for each of its completions, padding never. Shapes: L layers, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from twofold.batch import Group, Routing
from twofold.errors import ModelError
from twofold.world import world


def routers(model: PreTrainedModel) -> list[tuple[nn.Module, int]]:
    """The routers of a model, in order, each with the index of the logits in its output; none for a dense model."""
    recorders: dict[str, Any] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            recorders |= module.can_record_outputs
    recorder = recorders.get("router_logits")
    if recorder is None or top_k(model) is None:
        return []
    kinds = [
        (getattr(one, "target_class", one), getattr(one, "layer_name", None) or "", getattr(one, "index", 0))
        for one in (recorder if isinstance(recorder, list) else [recorder])
    ]
    return [
        (module, index)
        for name, module in model.named_modules()
        for kind, part, index in kinds
        if isinstance(module, kind) and part in name
    ]


def top_k(model: PreTrainedModel) -> int | None:
    """How many experts each token goes through."""
    config = model.config.get_text_config()
    names = "num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_top_k"
    known = (getattr(config, name, None) for name in names)
    return next((value for value in known if isinstance(value, int)), None)


@contextmanager
def recorded(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collect the router logits inside the context, [tokens, E] per layer, in the order of the layers."""
    logits: list[Tensor] = []

    def hook(index: int) -> Any:
        def record(_: nn.Module, __: object, out: Any) -> None:
            taken = out[index] if isinstance(out, tuple) else out
            logits.append(taken.reshape(-1, taken.shape[-1]))

        return record

    handles = [module.register_forward_hook(hook(index)) for module, index in routers(model)]
    try:
        yield logits
    finally:
        for handle in handles:
            handle.remove()


def routing(logits: Sequence[Tensor], weight_T: Tensor, chosen: int) -> Routing:
    """The routing for these router logits; token t counts `weight_T[t]` times and went through `chosen` experts."""
    probability: list[Tensor] = []
    counts: list[Tensor] = []
    for z in logits:
        p_TE = z.to(torch.promote_types(z.dtype, torch.float32)).softmax(-1)
        weight_T = weight_T.to(p_TE)
        probability.append(weight_T @ p_TE)
        picked = p_TE.detach().topk(chosen, -1).indices
        spread = weight_T.repeat_interleave(chosen)
        counts.append(torch.zeros_like(p_TE[0]).detach().index_add_(0, picked.flatten(), spread))
    return Routing(torch.stack(probability), torch.stack(counts), float(weight_T.sum()) * len(logits))


def whole_routing(parts: Sequence[Routing], device: torch.device) -> Routing:
    """The sum of `parts` over all processes."""
    if world().size == 1:
        return reduce(add, parts)
    mine = [reduce(add, parts)] if parts else []
    gathered = world().gather(
        [[r.probability_LE.tolist(), r.chosen_LE.tolist(), str(r.chosen_LE.dtype)[6:], r.rows] for r in mine]
    )
    every = [each for part in gathered for each in part]
    wide = [getattr(torch, dtype) for _, _, dtype, _ in every]
    return reduce(add, [
        Routing(torch.tensor(p, dtype=d, device=device), torch.tensor(c, dtype=d, device=device), rows)
        for (p, c, _, rows), d in zip(every, wide, strict=True)
    ])  # fmt: skip


def pack_weights(groups: Sequence[Group], *, ends: bool) -> Tensor:
    """How often each token [T] of a pack would occur in separate rows."""
    parts: list[Tensor] = []
    for group in groups:
        rows = [s for b in group.branches for s in b.strands(ends=ends)]
        parts.append(torch.full((len(group.prompt),), float(len(rows))))
        parts.extend(torch.ones(len(s.tokens) - (not ends)) for s in rows)
    return torch.cat(parts)


def row_weights(groups: Sequence[Group], *, ends: bool) -> Tensor:
    """1 for each token [N · longest] of padded rows, 0 for padding."""
    rows = [(g.prompt, s.tokens) for g in groups for b in g.branches for s in b.strands(ends=ends)]
    lengths = torch.tensor([len(prompt) + len(tokens) - (not ends) for prompt, tokens in rows])
    return (torch.arange(int(lengths.max())) < lengths[:, None]).flatten().float()


def balance(model: PreTrainedModel, coefficient: float | None) -> float:
    """The weight of the load-balancing loss: `coefficient`, or the config's. Raises ModelError if it is not 0 and the
    model has no router."""
    config = model.config.get_text_config()
    if coefficient is None:
        coefficient = getattr(config, "router_aux_loss_coef", None) if _asks(config) else None
    if coefficient and not routers(model):
        what = f"a {type(model).__name__} has no routers that a load-balancing loss could be made of"
        raise ModelError(what, where="model.router_aux_loss_coef", remedy="leave it out, or set it to 0")
    return float(coefficient or 0.0)


def _asks(config: Any) -> bool:
    return bool(getattr(config, "output_router_logits", False))
