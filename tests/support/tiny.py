"""Tiny random models and groups that many tests share; every one is a function of its arguments."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tr
from hypothesis import settings
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from twofold.batch import Branch, Group, Role
from twofold.models.attention import stock_attention
from twofold.models.policy import Policy

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)
VOCABULARY = 61
SPECIAL: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
DECODER: dict[str, Any] = {
    **SPECIAL, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def sharp(model: tr.PreTrainedModel, seed: int = 0) -> tr.PreTrainedModel:
    """Weights large enough that what was said before matters, and no vector left at its neutral 0 or 1."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.25, generator=noise)
            else:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=noise))
    return model.eval()


def llama(seed: int = 0, **changes: Any) -> tr.PreTrainedModel:
    return sharp(tr.LlamaForCausalLM(tr.LlamaConfig(**{**DECODER, **changes})), seed)


def chain(log_probability_VV: Tensor) -> tr.PreTrainedModel:
    """A transformer that is a Markov chain: nothing reaches the residual stream, so that only the last token counts."""
    num = len(log_probability_VV)
    sizes = {"hidden_size": num, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}
    ends = {"max_position_embeddings": 32, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    model = tr.LlamaForCausalLM(tr.LlamaConfig(vocab_size=num, rms_norm_eps=1e-30, **sizes, **ends)).double()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(num))
        model.lm_head.weight.copy_(log_probability_VV.T / num**0.5)  # the norm makes √V of a one
    return model.eval()


def gpt2(seed: int = 0, **changes: Any) -> tr.PreTrainedModel:
    sizes = {**SPECIAL, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return sharp(tr.GPT2LMHeadModel(tr.GPT2Config(**{**sizes, **changes})), seed)


def lora(model: tr.PreTrainedModel, *, seed: int = 1, moved: bool = True) -> PeftModel:
    """LoRA on every linear layer, in place; `moved` away from its first state, in which it adds nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv = isinstance(model, tr.GPT2LMHeadModel)
        adapter = get_peft_model(
            model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=conv)
        )
        if moved:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(0, 0.3)
    return adapter  # type: ignore[return-value]  # no mixed adapters here


def policy(seed: int = 0, *, dtype: torch.dtype = torch.float64, **options: Any) -> Policy:
    """A two-layer Llama."""
    return Policy(llama(seed).to(dtype), **options)


def lora_policy(seed: int = 0, *, dtype: torch.dtype = torch.float64, moved: bool = False, **options: Any) -> Policy:
    """The same under a LoRA adapter, which adds nothing yet unless `moved`."""
    model = llama(seed)
    adapter = lora(model, moved=moved)
    return Policy(model.to(dtype), adapter=adapter, **options)


def roles(branches: int) -> tuple[Role, ...]:
    """What the branches of a group of this size are: a demonstration, a pair, or drafts."""
    known = {1: (Role.DEMONSTRATION,), 2: (Role.CHOSEN, Role.REJECTED)}
    return known.get(branches, (Role.DRAFT,) * branches)


def groups(*shapes: tuple[int, ...], seed: int = 0, vocabulary: int = VOCABULARY) -> list[Group]:
    """One group per shape: the prompt's length, then each branch's."""
    noise = torch.Generator().manual_seed(seed)

    def tokens(n: int) -> Tensor:
        return torch.randint(vocabulary, (n,), generator=noise)

    made: list[Group] = []
    for i, (length, *lengths) in enumerate(shapes):
        prompt = tokens(length)
        branches = (Branch(tokens(n), role) for n, role in zip(lengths, roles(len(lengths)), strict=True))
        made.append(Group(f"row {i}", prompt, tuple(branches)))
    return made


def pairs(count: int, seed: int = 0) -> list[Group]:
    """Preference pairs of many lengths, one-token branches among them."""
    noise = torch.Generator().manual_seed(seed + 100)
    shapes = [tuple((1 + torch.randint(9, (3,), generator=noise)).tolist()) for _ in range(count)]
    return groups(*shapes, seed=seed)


def alone(model: tr.PreTrainedModel, group: Group) -> list[Tensor]:
    """Log-probabilities [n] of each branch: one unpadded row through the model as transformers runs it."""
    rows: list[Tensor] = []
    for branch in group.branches:
        row = torch.cat([group.prompt, branch.tokens])
        with stock_attention(model):  # transformers 5.17 drops Gemma-2's soft cap in its default attention
            logits = model(input_ids=row[None, :-1], use_cache=False).logits[0, len(group.prompt) - 1 :]
        rows.append(logits.log_softmax(-1).gather(1, branch.tokens[:, None]).squeeze(1))
    return rows


def tokenizer() -> tr.PreTrainedTokenizerFast:
    """Token i is the word `i`."""
    words = {str(i): i for i in range(VOCABULARY)}
    return tr.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="0")))


def weights(policy: Policy) -> dict[str, Tensor]:
    """A copy of every parameter."""
    return {n: p.detach().clone() for n, p in policy.model.named_parameters()}


def gradients(policy: Policy) -> dict[str, Tensor]:
    """A copy of every gradient there is."""
    return {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}


@torch.no_grad()
def learn(policy: Policy) -> None:
    """Move all that is trained, a magnitude by its share."""
    noise = torch.Generator().manual_seed(1)
    for name, parameter in policy.trainable().items():
        change = torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)
        parameter.mul_(1 + 0.2 * change) if "magnitude" in name else parameter.add_(0.1 * change)
