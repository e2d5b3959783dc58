"""twofold's wrapper of a transformers model: groups in, the outputs of its head out, in one `nn.Module.forward`.

Packs share each prompt among its branches if `branch_attention` is exact for the model, which a check at construction
decides. Otherwise every branch is a padded row of its own, computed with the model's stock attention. A head computes
the outputs from the hidden states (`policy.py`: log-probabilities; `heads.py`: scores and values).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from twofold.batch import Batch, Group, Outputs, Routing
from twofold.errors import DataError, ModelError, first_line
from twofold.models.attention import NAME, set_attention, stock_name
from twofold.models.backbone import pack_hidden
from twofold.models.casts import Casts
from twofold.models.experts import balance, pack_weights, recorded, routers, row_weights, top_k, whole_routing
from twofold.models.experts import routing as routing_of
from twofold.models.masters import Masters
from twofold.models.packing import Packing, bins, pack, targets
from twofold.models.parts import in_parts
from twofold.models.row_lengths import restart_rotary
from twofold.models.seq2seq import branch_hidden, encodes_prompts, take_one_kernel
from twofold.models.small_copy import small_copy
from twofold.models.trial import findings, in_order, know_float64, positions, refuse_leaks, trial_groups
from twofold.world import Turn, is_sharded, part_of, settle, world

if TYPE_CHECKING:
    from peft import PeftModel

Sharing = Literal["auto", "shared", "rows"]


class Head(Protocol):
    """Computes outputs from a model: `of_pack` from a pack's hidden states [S, H], `of_rows` from groups as padded
    rows. Both return the same values in the same order. With `ends` a pack includes the last token of each branch, and
    the head reads only that token."""

    ends: bool
    name: str
    """The name of its values, in the plural."""
    output: str
    """The field of `Outputs` that holds them."""

    def of_pack(self, model: PreTrainedModel, hidden_SH: Tensor, target_S: Tensor) -> Tensor: ...

    def of_rows(self, model: PreTrainedModel, groups: Sequence[Group]) -> Tensor: ...

    def statistics(
        self, model: PreTrainedModel, groups: Sequence[Group], hidden_SH: Tensor | None, names: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """Further values [S], at least those of `names`, from a pack's hidden states, or without these from `groups` as
        rows. Only `entropy` has a gradient."""
        ...


class ModelOptions(TypedDict, total=False):
    """Options of a `PackedModel`. `adapter` is PEFT's wrapper, if any. `sharing` "auto" checks whether prompts can be
    shared, and `sharing_note` gives the reason if not; "shared" makes that an error. `autocast` is the dtype of
    products under autocast; `cast` is the dtype of all weights and of the hidden states between layers. `note` is a
    message for users of the model."""

    adapter: PeftModel | None
    autocast: torch.dtype | None
    cast: torch.dtype | None
    sharing: Sharing
    activation_checkpointing: bool
    recompute_every: int
    router_aux_loss_coef: float | None
    note: str


class PackedModel(nn.Module):
    """A model with one head, for steps and trainers, without dropout."""

    def __init__(self, model: PreTrainedModel, head: Head, **holding: Unpack[ModelOptions]) -> None:
        super().__init__()
        self.model, self.head = model, head
        self._adapter = (holding.get("adapter"),)  # in a tuple, or its parameters would count twice
        self.autocast, self.note = holding.get("autocast"), holding.get("note", "")
        self.casts = None if (narrow := holding.get("cast")) is None else Casts(narrow)
        self.masters: Masters | None = None
        self._device: torch.device | None = None
        self.model.eval()
        if holding.get("activation_checkpointing"):
            _checkpoint_activations(model, self.casts, holding.get("recompute_every", 1))
        self.balance = balance(model, holding.get("router_aux_loss_coef"))
        know_float64(model)
        take_one_kernel(model)
        known = findings(model, head)
        refuse_leaks(model, known, head.name)
        self.row_lengths, self.most_tokens = known.row_lengths(model), known.most_tokens(model)
        self.positions = self.most_tokens or positions(model)
        self._by_mask = known.by_mask
        sharing = holding.get("sharing", "auto")
        self.sharing_note = "" if sharing == "rows" else known.sharing_note or self._device_note()
        self.shared = sharing != "rows" and not self.sharing_note
        if sharing == "shared" and not self.shared:
            what, remedy = f"this model cannot share prompts: {self.sharing_note}", "set it to auto or rows"
            raise ModelError(what, where="model.sharing", remedy=remedy)
        self._attention = NAME if self.shared and not encodes_prompts(model) else stock_name(model)
        set_attention(model, self._attention)

    @property
    def adapter(self) -> PeftModel | None:
        return self._adapter[0]

    @property
    def device(self) -> torch.device:
        if self._device is not None:
            return self._device
        return self.model.get_input_embeddings().weight.device  # type: ignore[return-value]  # an nn.Embedding

    def stay_on_device(self) -> None:
        """Always compute on the device where the weights are now, even if they are offloaded between calls."""
        self._device = self.device

    @property
    def narrow(self) -> torch.dtype | None:
        """The dtype of products, if it is not that of the weights."""
        return self.autocast if self.casts is None else self.casts.dtype

    def keep_masters(self) -> None:
        """If float32 weights are trained in bfloat16, compute with weights rounded by `Masters` from now on. Without
        masters, updates below half a bfloat16 step would not change the model's output."""
        trained = self.trainable()
        if self.narrow == torch.bfloat16 and self.adapter is None and self.masters is None:
            self.masters = Masters({n: p for n, p in trained.items() if p.dtype == torch.float32 and p.is_contiguous()})

    def drop_masters(self) -> bool:
        """Compute with the masters themselves from now on; return whether there were any."""
        if self.masters is None:
            return False
        self.masters.end()
        self.masters = None
        return True

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """Inside the context the trained weights are their masters, if they have any."""
        with nullcontext() if self.masters is None else self.masters.whole():
            yield

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Set the trained weights, or their masters if they have any, to these."""
        with self.whole_weights():
            for name, parameter in self.trainable().items():
                parameter.copy_(part_of(weights[name], parameter))

    def train(self, mode: bool = True) -> PackedModel:
        """Do nothing: dropout stays off, so that outputs do not depend on the mode."""
        return self

    def forward(
        self, groups: Sequence[Group], statistics: Sequence[str] = (), *, routing: bool = False
    ) -> tuple[Outputs, Batch]:
        """The head's outputs for every branch of `groups`, and their batch. The outputs include the named `statistics`
        and, for a mixture of experts, the `routing`."""
        self.refuse_long(groups)
        set_attention(self.model, self._attention)  # another model on the same config may have switched it
        calls = [(list(groups), list[int]())]
        if self.row_lengths.matter:
            calls = self.row_lengths.calls(groups, ends=self.head.ends) or calls
        with self._precision():
            results = [self._values(members, statistics, routing=routing) for members, _ in calls]
        ends, places = self.head.ends, [place for _, place in calls]
        routed = [part.pop("routing") for part in results] if routing else []
        fields: dict[str, Any] = {
            name: in_order([(part[name], at) for part, at in zip(results, places, strict=True)], groups, ends=ends)
            for name in results[0]
        }
        known = {name: fields.pop(name) for name in statistics}
        if is_sharded(self):  # a view could lose the hooks of FSDP2
            fields = {name: value.clone() for name, value in fields.items()}
        total = reduce(add, routed) if routed else None
        return Outputs(**fields, statistics=known, routing=total), Batch.of(groups, self.device)

    def _values(self, groups: Sequence[Group], statistics: Sequence[str], *, routing: bool) -> dict[str, Any]:
        """The results of one call for `groups`, by the name of the field or statistic."""
        if routing:
            weigh = pack_weights if self.shared else row_weights
            with recorded(self.model) as logits:
                values = self._values(groups, statistics, routing=False)
            weight_T = weigh(groups, ends=self.head.ends).to(self.device)
            return {**values, "routing": routing_of(logits, weight_T, top_k(self.model) or 1)}
        if self.row_lengths.matter:
            restart_rotary(self.model)
        hidden_SH = None
        if self.shared:
            hidden_SH, target_S = self._packed(groups)
            value = self.head.of_pack(self.model, hidden_SH, target_S)
        else:
            value = self.head.of_rows(self.model, groups)
        if not statistics:
            return {self.head.output: value}
        known = self.head.statistics(self.model, groups, hidden_SH, statistics)
        return {self.head.output: value, **{name: known[name] for name in statistics}}

    def refuse_long(self, groups: Sequence[Group]) -> None:
        """Raise DataError for a row with more tokens than the model has learned positions."""
        if self.most_tokens is None:
            return
        for group in groups:
            longest = self._longest(group)
            if longest > self.most_tokens:
                raise DataError(
                    f"{longest} tokens; the model has learned {self.most_tokens} positions",
                    where=group.name,
                    remedy=f"set data.tokenize.max_length={self.most_tokens}, or leave the row out",
                )

    def _longest(self, group: Group) -> int:
        """The number of positions that the longest row of a group needs."""
        if encodes_prompts(self.model):
            return max(len(group.prompt), group.longest)
        return len(group.prompt) + group.longest - (not self.head.ends)

    def per_branch(self, groups: Sequence[Group], packing: Packing | None) -> list[list[Tensor]]:
        """Per group and branch the head's values: one per token [n], or only that of its end [1]; without gradient, on
        the CPU."""
        packs = bins(groups, packing or Packing())
        values = self.per_pack([[groups[i] for i in members] for members in packs])
        found = {
            i: row for members, rows in zip(packs, values, strict=True) for i, row in zip(members, rows, strict=True)
        }
        return [found[i] for i in range(len(groups))]

    @torch.no_grad()
    def per_pack(self, packs: Sequence[Sequence[Group]]) -> list[list[list[Tensor]]]:
        """As `per_branch`, but for these packs: per pack, group and branch."""
        sizes = [[1 if self.head.ends else len(b.tokens) for g in pack for b in g.branches] for pack in packs]
        values: dict[int, Tensor] = {}
        for turn in self.turns(packs):
            outputs, _ = self([group.only_columns(()) for group in packs[turn.place]])
            if turn.real:
                values[turn.place] = getattr(outputs, self.head.output).cpu()
        dtype = torch.promote_types(self.model.dtype, torch.float32)
        pooled = world().pooled(values, [sum(each) for each in sizes], dtype)
        pieces = (iter(value.split(size)) for value, size in zip(pooled, sizes, strict=True))
        return [
            [[next(of_pack) for _ in group.branches] for group in pack]
            for of_pack, pack in zip(pieces, packs, strict=True)
        ]

    def turns(self, packs: Sequence[Sequence[Group]]) -> list[Turn]:
        """Which of `packs` this process computes. Processes that share the weights call the model equally often."""
        return world().deal([sum(g.num_tokens for g in pack) for pack in packs], even=is_sharded(self))

    @torch.no_grad()
    def routing(self, groups: Sequence[Group], packing: Packing) -> Routing | None:
        """The routing of the tokens of `groups` in a mixture of experts, without gradient; None without routers."""
        if not groups or not routers(self.model):
            return None
        packs = [[groups[i].only_columns(()) for i in members] for members in bins(groups, packing)]
        parts = [(turn.real, self(packs[turn.place], routing=True)[0].routing) for turn in self.turns(packs)]
        return whole_routing([routed for real, routed in parts if real and routed is not None], self.device)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name; tied ones once."""
        return {n: p for n, p in self.weights().items() if p.requires_grad}

    def weights(self) -> dict[str, nn.Parameter]:
        """All parameters by name, tied ones once; for a sharded model, the shards."""
        settle(self)
        return dict(self.model.named_parameters())

    def embeddings(self) -> list[nn.Parameter]:
        """The weights of the input and output embeddings."""
        modules = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        return [p for module in modules if module is not None for p in module.parameters()]

    @contextmanager
    def cast_once(self) -> Iterator[None]:
        """Inside the context each weight is cast only once for all calls with gradient."""
        if self.casts is not None:
            with self.casts.once():
                yield
            return
        with self._precision(), torch.autocast(self.device.type, enabled=False):
            yield

    def _precision(self, model: nn.Module | None = None) -> AbstractContextManager[object]:
        """The context in which this model, or a `model` like it, computes. Casts are cached only for calls with
        gradient: a cast from a call without gradient would not pass gradients on."""
        if self.casts is not None:
            return nullcontext() if is_sharded(self) else self.casts.of(model or self.model)  # FSDP2 casts its shards
        known = torch.is_grad_enabled() and not is_sharded(self)  # gathered weights do not last
        return torch.autocast(self.device.type, self.autocast, self.autocast is not None, cache_enabled=known)

    def _packed(self, groups: Sequence[Group]) -> tuple[Tensor, Tensor]:
        """The hidden states [S, H] that the head reads, and the tokens [S] that they must predict."""
        if encodes_prompts(self.model):
            return branch_hidden(self.model, groups), targets(groups, self.device)
        stream = pack(groups, self.device, ends=self.head.ends)
        return pack_hidden(self.model, stream, by_mask=self._by_mask), stream.target_S

    @torch.no_grad()
    def _device_note(self) -> str:
        """Why packs cannot be computed on the model's device; accelerators use another kernel for them."""
        if self.device.type == "cpu" or encodes_prompts(self.model):
            return ""
        tried = small_copy(self.model, (self.model.dtype,)) if in_parts(self.model) else self.model
        if tried is None:
            return ""
        before = str(tried.config._attn_implementation)
        try:
            set_attention(tried, NAME)
            nn.Module.to(tried, self.device)
            stream = pack(trial_groups(tried), self.device, ends=self.head.ends)
            with self._precision(tried):
                pack_hidden(tried, stream, by_mask=self._by_mask)
        except Exception as error:  # of any kind: the layers are not ours
            return first_line(error)
        finally:
            set_attention(tried, before)
        return ""


def _checkpoint_activations(model: PreTrainedModel, casts: Casts | None, every: int) -> None:
    """Recompute one layer of `every` in the backward pass, beginning with the first. Layers recompute only in training
    mode, so only these layers are put into it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the second name is the older one
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers[::every]:
        layer.training = True
        layer._gradient_checkpointing_func = partial(_recomputed, layer, casts)  # type: ignore[assignment]  # no submodule


def _recomputed(layer: nn.Module, casts: Casts | None, call: Callable[..., object], *args: object) -> object:
    """`call(*args)`, repeated in the backward pass, both in evaluation mode: some layers have dropout of their own."""

    def still(*args: object) -> object:
        layer.training = False
        try:
            with nullcontext() if casts is None or is_sharded(layer) else casts.of(layer):
                return call(*args)
        finally:
            layer.training = True

    return checkpoint(still, *args, use_reentrant=False)
