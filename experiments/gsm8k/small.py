"""PDPO's experiment at laptop scale, on real GSM8K text: `python -m experiments.gsm8k.small --data FOLDER`.

A tokenizer and a small Qwen2 are made from scratch, trained on train.jsonl, sampled for rejected answers, then aligned
with PDPO and with DPO (recipes/gsm8k_small*.yaml). Every stage is kept under runs/gsm8k-small and taken up again there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.byte_level import byte_level
from benchmarks.commands import command_line, shared_data
from benchmarks.reporting import write_json
from experiments.gsm8k import files
from experiments.harness.files import read_rows, write_rows
from experiments.headline import papers
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
        write_rows(OUT / "data" / f"{split}.jsonl", files.problems(source / f"{split}.jsonl"))
    write_rows(OUT / "data" / "heldout.jsonl", files.heldout(source / "example_model_solutions.jsonl"))


def byte_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `texts`, digits apart, `<|end|>` (0) to stop and `<|pad|>` (1)."""
    bpe = byte_level(texts, VOCABULARY, ("<|end|>", "<|pad|>"), digits=True)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|end|>", pad_token="<|pad|>")


def make_scratch(folder: Path) -> None:
    """A tokenizer of the training text and an untrained Qwen2 of about 3M parameters."""
    tokenizer = byte_tokenizer(row["prompt"] + row["answer"] for row in read_rows(OUT / "data" / "train.jsonl"))
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
    found = read_rows(OUT / "data" / "train.jsonl")
    loaded = load_model(ModelSettings(path=str(model), precision="float32"))
    encoder = Encoder(loaded.tokenizer, loaded.stop_tokens)
    settings = Sampling(max_new_tokens=256, batch_size=256)
    sampler = LocalSampler(loaded.model, loaded.tokenizer, loaded.stop_tokens, settings)
    progress.begin("the policy's own answers", len(found))
    own: list[dict[str, Any]] = []
    for at in range(0, len(found), 256):
        part = found[at : at + 256]
        texts = [encoder.text(d.tokens) for (d,) in sampler.sample([encoder.prompt(row["prompt"]) for row in part])]
        own += [{"prompt": r["prompt"], "completion": text} for r, text in zip(part, texts, strict=True)]
        progress.advance("the policy's own answers", len(part))
    progress.end("the policy's own answers")
    number = write_rows(OUT / "data" / "pairs.jsonl", files.pairs(found, own))
    progress.note(f"{number} pairs of {len(found)} problems")


def run(recipe: str, overrides: list[str], progress: RichProgress) -> dict[str, Any]:
    """Train a recipe (or take it up), and its results."""
    path = RECIPES / recipe
    document = load_recipe(path, overrides)
    command = " ".join(["twofold train", str(path), *overrides])
    conduct = RunOptions(progress=progress, command=command, recipe_text=path.read_text(encoding="utf-8"))
    return dict(train_recipe(validate(Recipe, document), conduct).results)


def main() -> None:
    parser = command_line("experiments.gsm8k.small", __doc__)
    source = "folder with train.jsonl, test.jsonl, example_model_solutions.jsonl"
    parser.add_argument("--data", type=Path, default=shared_data("gsm8k"), help=source)
    options = parser.parse_args()
    if not (OUT / "data" / "heldout.jsonl").is_file():
        make_data(options.data)
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
    setup = papers.Setup("Qwen2 of 3M parameters, from scratch", "GSM8K test", "exact match")
    print(papers.markdown(papers.of_results(found["pdpo"], found["dpo"], setup)))
    if options.json:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
