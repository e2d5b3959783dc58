"""Small models from nothing, for experiments that need no hub, and how they answer and compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.byte_level import byte_level
from twofold.batch import Branch, Group, Role
from twofold.data.tokenize import Encoder
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, load_policy
from twofold.models.packing import Packing
from twofold.models.policy import Policy
from twofold.sampling.base import Sample, Sampling
from twofold.sampling.best_of_n import expected
from twofold.sampling.local import LocalSampler

SPECIAL = PAD, BOS, EOS = "<|pad|>", "<|begin|>", "<|end|>"


@dataclass(frozen=True)
class Size:
    """A Llama with tied embeddings; `positions` are the tokens of prompt and completion at most."""

    vocabulary: int = 4096
    width: int = 128
    layers: int = 4
    heads: int = 4
    positions: int = 256


def untrained(size: Size, *, pad: int, bos: int, eos: int) -> LlamaForCausalLM:
    """The same weights every time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.width * 8 // 3,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, max_position_embeddings=size.positions,
        tie_word_embeddings=True, pad_token_id=pad, bos_token_id=bos, eos_token_id=eos, initializer_range=0.04,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def make_scratch(folder: Path, texts: Iterable[str], size: Size) -> None:
    """An untrained model, and a tokenizer of `texts` (BOS first, so that no prompt is empty); unless they are there."""
    if (folder / "config.json").is_file():
        return
    bpe = byte_level(texts, size.vocabulary, SPECIAL)
    bpe.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # binding's setter
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, SPECIAL.index(BOS))]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD)
    tokenizer.save_pretrained(folder)
    untrained(replace(size, vocabulary=len(tokenizer)), pad=0, bos=1, eos=2).save_pretrained(folder)


@dataclass(frozen=True)
class Speaker:
    """A policy in memory, and how it answers."""

    policy: Policy
    encoder: Encoder
    sampling: Sampling

    @classmethod
    def load(cls, folder: Path, sampling: Sampling, device: str = "cpu") -> Speaker:
        policy, loaded = load_policy(ModelSettings(path=str(folder), precision="float32"), 0)
        assert isinstance(policy, Policy)
        policy.model.to(device)  # type: ignore[arg-type]  # a device's name
        return cls(policy.requires_grad_(False), Encoder(loaded.tokenizer, loaded.stop_tokens), sampling)

    @property
    def sampler(self) -> LocalSampler:
        return LocalSampler(self.policy.model, self.encoder.tokenizer, self.encoder.stop_tokens, self.sampling)

    def drafts(self, prompts: Iterable[str], *, samples: int = 1, seed: tuple[int, int] = (0, 0)) -> list[list[Sample]]:
        """`samples` drafts for each of `prompts`."""
        return self.sampler.sample([self.encoder.prompt(p) for p in prompts], samples=samples, seed=seed)

    def texts(self, drafts: Iterable[Sample]) -> list[str]:
        return [self.encoder.text(d.tokens) for d in drafts]

    def groups(self, prompts: Iterable[str], rows: Iterable[Sequence[Sample]]) -> list[Group]:
        """Prompts with their drafts as branches."""
        return [
            Group(p, self.encoder.prompt(p), tuple(Branch(d.tokens, Role.DRAFT) for d in drafts))
            for p, drafts in zip(prompts, rows, strict=True)
        ]


def scorer_of(folder: Path) -> Callable[[Sequence[Group]], list[list[float]]]:
    """Scores every branch by the reward model in `folder`."""
    model, _ = load_reward_model(ModelSettings(path=str(folder), precision="float32"))
    return lambda groups: torch.no_grad()(model.scores)(groups, Packing())


def drift(policy: Policy, pairs: Sequence[Group], packing: Packing) -> tuple[Tensor, Tensor]:
    """log π/π_ref of the chosen and of the rejected answers of `pairs`, which have a reference's column [n]; nats."""
    sums = [
        [(x - b.token_columns["ref_logp"]).double().sum() for x, b in zip(row, g.branches, strict=True)]
        for row, g in zip(policy.logps(pairs, packing), pairs, strict=True)
    ]
    chosen, rejected = torch.tensor(sums, dtype=torch.float64).unbind(1)
    return chosen, rejected


def doublings(most: int) -> list[int]:
    """1, 2, 4 … up to `most`."""
    return [2**power for power in range(most.bit_length())]


def best_of(n: int, scores: Sequence[Sequence[float]], values: Sequence[Sequence[float]]) -> list[float]:
    """For each prompt the expected value of the draft whose score is best of `n`."""
    return [expected(s, v, n) for s, v in zip(scores, values, strict=True)]
