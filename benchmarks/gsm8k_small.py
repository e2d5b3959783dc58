"""PDPO's experiment at laptop scale: `python -m benchmarks.gsm8k_small --data FOLDER` (real GSM8K text, about an hour).

A tokenizer and a small Qwen2 are made from scratch, trained on train.jsonl, sampled for rejected answers, then aligned
with PDPO and with DPO (recipes/gsm8k_small*.yaml). Every stage is kept under runs/gsm8k-small and taken up again there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks import gsm8k, headline
from twofold.cli.progress import RichProgress
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data.tokenize import Encoder
from twofold.models.load import ModelSettings, load_model
from twofold.runs.train import RunOptions, train_recipe
from twofold.sampling.base import Sampling
from twofold.sampling.local import LocalSampler

OUT = Path("runs/gsm8k-small")
RECIPES = Path("recipes")
VOCABULARY = 2048


def make_data(source: Path) -> None:
    """Prompts and answers for training and test, and the real correct over wrong solutions of test problems."""
    for split in ("train", "test"):
        gsm8k.write(OUT / "data" / f"{split}.jsonl", gsm8k.problems(source / f"{split}.jsonl"))
    gsm8k.write(OUT / "data" / "heldout.jsonl", gsm8k.heldout(source / "example_model_solutions.jsonl"))


def byte_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `texts`, digits apart, `<|end|>` (0) to stop and `<|pad|>` (1)."""
    bpe = Tokenizer(models.BPE())
    digits, bytes_ = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])  # type: ignore[assignment]  # the binding's setter
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]  # likewise
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<|end|>", "<|pad|>"], initial_alphabet=alphabet),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>")


def make_scratch(folder: Path) -> None:
    """A tokenizer of the training text and an untrained Qwen2 of about 3M parameters."""
    tokenizer = byte_tokenizer(row["prompt"] + row["answer"] for row in gsm8k.rows(OUT / "data" / "train.jsonl"))
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=224, intermediate_size=608, num_hidden_layers=4, num_attention_heads=7,
        num_key_value_heads=7, max_position_embeddings=768, tie_word_embeddings=True,
        eos_token_id=0, bos_token_id=None, pad_token_id=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def sample_rejected(model: Path, progress: RichProgress) -> None:
    """One answer of the policy's own per training problem at temperature 1, and the pairs with the worked answers."""
    found = gsm8k.rows(OUT / "data" / "train.jsonl")
    loaded = load_model(ModelSettings(path=str(model), precision="float32"))
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    settings = Sampling(max_new_tokens=256, batch_size=256)
    sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, settings)
    progress.begin("the policy's own answers", len(found))
    own: list[dict[str, Any]] = []
    for at in range(0, len(found), 256):
        part = found[at : at + 256]
        drafts = sampler.sample([encoder.prompt(row["prompt"]) for row in part])
        own += [
            {"prompt": r["prompt"], "completion": encoder.text(d.tokens)} for r, (d,) in zip(part, drafts, strict=True)
        ]
        progress.advance("the policy's own answers", len(part))
    progress.end("the policy's own answers")
    number = gsm8k.write(OUT / "data" / "pairs.jsonl", gsm8k.pairs(found, own))
    progress.note(f"{number} pairs of {len(found)} problems")


def run(recipe: str, overrides: list[str], progress: RichProgress) -> dict[str, Any]:
    """Train a recipe (or take it up), and its results."""
    path = RECIPES / recipe
    document = load_recipe(path, overrides)
    command = " ".join(["twofold train", str(path), *overrides])
    conduct = RunOptions(progress=progress, command=command, recipe_text=path.read_text(encoding="utf-8"))
    return dict(train_recipe(validate(Recipe, document), conduct).results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("TWOFOLD_SHARED", "../shared")) / "data" / "gsm8k"
    parser.add_argument(
        "--data", type=Path, default=default, help="folder with train.jsonl, test.jsonl, example_model_solutions.jsonl"
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    if not (OUT / "data" / "heldout.jsonl").is_file():
        make_data(given.data)
    if not (OUT / "scratch").is_dir():
        make_scratch(OUT / "scratch")
    with RichProgress() as progress:
        if not (OUT / "sft" / "results.json").is_file():
            run("gsm8k_small_sft.yaml", [], progress)
        if not (OUT / "data" / "pairs.jsonl").is_file():
            sample_rejected(OUT / "sft" / "model", progress)
        found = {
            "pdpo": run("gsm8k_small.yaml", [], progress),
            "dpo": run("gsm8k_small.yaml", ["algorithm={kind: offline}", f"run={OUT}/dpo"], progress),
        }
    for name, results in found.items():
        print(name, json.dumps({k: results[k] for k in ("models", "comparisons", "heldout", "training")}, indent=1))
    setup = headline.Setup("Qwen2 of 3M parameters, from scratch", "GSM8K test", "exact match")
    print(headline.markdown(headline.of_results(found["pdpo"], found["dpo"], setup)))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
