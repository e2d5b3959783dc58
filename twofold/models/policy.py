"""The policy: groups in, log-probabilities out, in one `nn.Module.forward` (backbone, gather, head).

Packs share each prompt among its branches where `branch_attention` is exact for the model; a check at construction
decides, and otherwise every branch is a padded row of its own through the model's stock attention and head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from twofold.batch import Batch, Branch, Group, Outputs, Role
from twofold.errors import ModelError
from twofold.models.attention import NAME, UnsupportedAttention, set_attention, stock_attention, stock_name
from twofold.models.logprob import token_logps
from twofold.models.packing import Packing, bins, pack

if TYPE_CHECKING:
    from peft import PeftModel

Sharing = Literal["auto", "shared", "rows"]

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 5e-4}  # nats per token, for the check; others 0.15


class Policy(nn.Module):
    """A causal language model as twofold sees it. Dropout is off; `adapter` is PEFT's wrapper where there is one.

    `sharing` "auto" checks whether prompts can be shared and says in `sharing_note` why not; "shared" insists.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        adapter: PeftModel | None = None,
        autocast: torch.dtype | None = None,
        sharing: Sharing = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self._adapter = (adapter,)  # in a tuple, or its parameters would count twice
        self.autocast = autocast
        self.model.eval()
        if activation_checkpointing:
            _checkpoint_activations(model)
        self.sharing_note = ""
        self.shared = sharing != "rows" and self._can_share()
        if sharing == "shared" and not self.shared:
            raise ModelError(
                f"this model cannot share prompts: {self.sharing_note}", remedy="set model.sharing to auto or rows"
            )
        set_attention(model, NAME if self.shared else stock_name(model))

    @property
    def adapter(self) -> PeftModel | None:
        return self._adapter[0]

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device  # type: ignore[return-value]  # an nn.Embedding

    def train(self, mode: bool = True) -> Policy:
        """Dropout never comes on: log-probabilities must not depend on the mode."""
        return self

    def forward(self, groups: Sequence[Group]) -> tuple[Outputs, Batch]:
        """Log-probabilities of every branch token of `groups`, and the batch that goes with them."""
        device = self.device
        with self._precision():
            logp_S = self._packed(groups) if self.shared else self._rows(groups)
        return Outputs(logp_S), Batch.of(groups, device)

    @torch.no_grad()
    def logps(self, groups: Sequence[Group], packing: Packing | None = None) -> list[list[Tensor]]:
        """Per group and branch the log-probabilities [n] of its tokens, without gradient, on the CPU."""
        result: list[list[Tensor]] = [[] for _ in groups]
        for members in bins(groups, packing or Packing()):
            chosen = [groups[i] for i in members]
            outputs, batch = self(chosen)
            pieces = iter(outputs.logp_S.cpu().split(batch.length_B.tolist()))
            for i in members:
                result[i] = [next(pieces) for _ in groups[i].branches]
        return result

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name; tied ones once."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, self.autocast) if self.autocast else nullcontext()

    def _packed(self, groups: Sequence[Group]) -> Tensor:
        stream = pack(groups, self.device)
        out = self.model.base_model(
            input_ids=stream.token_T, position_ids=stream.position_T, use_cache=False, layout=stream.layout
        )
        rows = out.last_hidden_state[0].index_select(0, stream.score_S)
        return self._head(rows, stream.target_S)

    def _head(self, rows: Tensor, target_S: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        softcap = getattr(self.model.config.get_text_config(), "final_logit_softcapping", None)
        if type(head) is nn.Linear:
            return token_logps(rows, head.weight, target_S, head.bias, softcap)
        if head is None:
            raise UnsupportedAttention("the model has no output embeddings")
        logits = head(rows)  # an adapted head: scored rows only, but all at once
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        return logits.log_softmax(-1).gather(1, target_S[:, None]).squeeze(1)

    def _rows(self, groups: Sequence[Group]) -> Tensor:
        """Every branch as a row of its own, right-padded, through the model's stock attention and its own logits.

        No mask: what is causal never sees padding to its right, and a masked query without a key is NaN in float64.
        """
        pairs = [(g.prompt, b.tokens) for g in groups for b in g.branches]
        rows = [torch.cat([prompt, tokens[:-1]]) for prompt, tokens in pairs]
        token = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        logits = self.model(input_ids=token, use_cache=False).logits
        scored: list[Tensor] = []
        for i, (prompt, tokens) in enumerate(pairs):
            z = logits[i, len(prompt) - 1 : len(prompt) - 1 + len(tokens)]
            z = z.to(torch.promote_types(z.dtype, torch.float32))
            scored.append(z.log_softmax(-1).gather(1, tokens.to(z.device)[:, None]).squeeze(1))
        return torch.cat(scored)

    @torch.no_grad()
    def _can_share(self) -> bool:
        """Whether a pack of two-branch groups gives the log-probabilities of separate rows, layer by layer exact."""
        groups = _trial(self.model)
        before = str(self.model.config._attn_implementation)
        try:
            set_attention(self.model, NAME)
            stream = pack(groups, self.device)
            with self._precision():
                out = self.model.base_model(
                    input_ids=stream.token_T, position_ids=stream.position_T, use_cache=False, layout=stream.layout
                )
                shared = self._head(out.last_hidden_state[0].index_select(0, stream.score_S), stream.target_S)
        except (UnsupportedAttention, TypeError, AttributeError) as error:
            self.sharing_note = str(error)
            return False
        finally:
            set_attention(self.model, before)
        if stream.layout.calls < self.model.config.get_text_config().num_hidden_layers:
            self.sharing_note = f"only {stream.layout.calls} of its layers use the attention interface"
            return False
        with self._precision(), stock_attention(self.model):
            rows = self._rows(groups)
        error = (shared - rows).abs().max().item()
        exact = torch.float64 if self.model.dtype == torch.float64 else None if self.autocast else self.model.dtype
        if not error <= _TOLERANCE.get(exact, 0.15):  # type: ignore[arg-type]  # None has no entry
            self.sharing_note = f"shared and separate log-probabilities differ by {error:.2g} nats per token"
            return False
        return True

    @contextmanager
    def as_reference(self, adapter: str | None = None) -> Iterator[None]:
        """The policy without its adapter, or with the frozen one named `adapter`; gradient flags come back."""
        if self.adapter is None:
            raise ModelError("a policy without an adapter cannot step aside for its reference")
        flags = {n: p.requires_grad for n, p in self.model.named_parameters()}
        active = str(self.adapter.active_adapter)
        try:
            if adapter is None:
                with self.adapter.disable_adapter():
                    yield
            else:
                self.adapter.set_adapter(adapter)
                yield
        finally:
            if adapter is not None:
                self.adapter.set_adapter(active)
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(flags[name])


def _checkpoint_activations(model: PreTrainedModel) -> None:
    """Recompute each layer in the backward pass. Layers do so in training mode only, and alone are put into it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the second name is the older one
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True
            module._gradient_checkpointing_func = partial(_recomputed, module)  # type: ignore[assignment]  # no submodule


def _recomputed(layer: nn.Module, call: Callable[..., object], *args: object) -> object:
    """`call(*args)`, again in the backward pass, both times in evaluation mode: some layers drop out by their own."""

    def still(*args: object) -> object:
        layer.training = False
        try:
            return call(*args)
        finally:
            layer.training = True

    return checkpoint(still, *args, use_reentrant=False)


def _trial(model: PreTrainedModel) -> list[Group]:
    """Two groups of two branches each, of fixed random tokens, long enough to leave a small sliding window."""
    config = model.config.get_text_config()
    room = min(getattr(config, "max_position_embeddings", 64) or 64, 64)
    window = getattr(config, "sliding_window", None) or 0
    length = max(2, min(room // 2 - 1, max(6, window // 2 + 3)))
    noise = torch.Generator().manual_seed(0)

    def tokens(n: int) -> Tensor:
        return torch.randint(config.vocab_size, (n,), generator=noise)

    def group(name: str, extra: int) -> Group:
        branches = (Branch(tokens(length), Role.CHOSEN), Branch(tokens(length - extra), Role.REJECTED))
        return Group(name, tokens(length), branches)

    return [group("check 0", 0), group("check 1", 1)]
