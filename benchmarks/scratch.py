"""Small models from nothing, for experiments that need no hub: a tokenizer, a Llama, stages that are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.gsm8k import write
from twofold.config.load import Document, validate
from twofold.config.schema import Recipe
from twofold.data.tokenize import Encoder
from twofold.models.load import ModelSettings, load_policy
from twofold.models.policy import Policy
from twofold.progress import Progress, Silent
from twofold.runs.train import RunOptions, train_recipe
from twofold.sampling.base import Draft, Sampling
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


def byte_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `texts`, whose every text begins with BOS, so that no prompt is empty."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]  # binding's setter
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]  # likewise
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    bpe.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]  # likewise
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, SPECIAL.index(BOS))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=PAD)


def make_scratch(folder: Path, texts: Iterable[str], size: Size) -> None:
    """A tokenizer of `texts` and an untrained model, where they are not there yet."""
    if (folder / "config.json").is_file():
        return
    tokenizer = byte_tokenizer(texts, size.vocabulary)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.width * 8 // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=SPECIAL.index(BOS),
        eos_token_id=SPECIAL.index(EOS),
        initializer_range=0.04,
    )
    tokenizer.save_pretrained(folder)
    LlamaForCausalLM(config).save_pretrained(folder)


def stage(run: Path, sections: Mapping[str, Any], command: str, progress: Progress | None = None) -> dict[str, Any]:
    """The results of a recipe run into `run`: taken up where it stopped, read where it is done."""
    if not (run / "results.json").is_file():
        recipe = validate(Recipe, Document(command, {**sections, "run": str(run)}, {}))
        train_recipe(recipe, RunOptions(progress=progress or Silent(), command=command))
    return json.loads((run / "results.json").read_text(encoding="utf-8"))


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What stands in the JSON file `path`, made where it is missing; rows of JSON Lines where it is called so."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made, temporary = make(), path.with_name(f"{path.name}.tmp")
        if path.suffix == ".jsonl":
            write(temporary, made)
        else:
            temporary.write_text(json.dumps(made) + "\n", encoding="utf-8")
        temporary.replace(path)
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


@dataclass(frozen=True)
class Speaker:
    """A policy in memory, and how it answers."""

    policy: Policy
    encoder: Encoder
    sampling: Sampling

    @classmethod
    def load(cls, folder: Path, sampling: Sampling) -> Speaker:
        policy, loaded = load_policy(ModelSettings(path=str(folder), precision="float32"), 0)
        assert isinstance(policy, Policy)
        return cls(policy.requires_grad_(False), Encoder(loaded.tokenizer, loaded.stop_tokens), sampling)

    def drafts(self, prompts: Iterable[str], *, samples: int = 1, seed: tuple[int, int] = (0, 0)) -> list[list[Draft]]:
        """`samples` drafts for each of `prompts`."""
        encoder = self.encoder
        sampler = LocalSampler(self.policy.model, encoder.tokenizer, encoder.stop_tokens, self.sampling)
        return sampler.sample([encoder.prompt(p) for p in prompts], samples=samples, seed=seed)

    def texts(self, drafts: Iterable[Draft]) -> list[str]:
        return [self.encoder.text(d.tokens) for d in drafts]
