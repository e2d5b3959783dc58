"""Peak memory of training runs beside what `--dry-run` says: `python -m benchmarks.memory --model FOLDER`.

Each run is a process of its own. On a GPU its peak is that of PyTorch's allocations. On a CPU it is the kernel's
high-water mark of resident memory, less what was resident before the model was loaded, after a run of a tiny model has
brought in every library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.commands import circumstances, command_line
from benchmarks.reporting import print_table

STEPS, PACKS = 2, 2
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}
"""Freed blocks of 64 KiB and more go back to the system, so that what is resident is what lives. At 1 MiB the small
matrices of LoRA split the heap: one run of 415 tokens peaked at 1,837 MiB where 1,149 were alive."""
WORDS = [
    "the",
    "river",
    "bends",
    "and",
    "every",
    "stone",
    "along",
    "it",
    "keeps",
    "a",
    "little",
    "of",
    "light",
    "there",
]


def main() -> None:
    parser = command_line("benchmarks.memory", __doc__)
    parser.add_argument("--model", type=Path, required=True, help="a model folder")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024], help="sizes of packs")
    parser.add_argument("--worker", help="what one run is to do, as JSON")
    asked = parser.parse_args()
    if asked.worker is not None:
        print(json.dumps(_run(**json.loads(asked.worker))))
        return
    facts, found = circumstances("benchmarks.memory"), list[dict[str, Any]]()
    for adapter, precision, recomputed, tokens in product(
        (False, True), ("float32", "bfloat16"), (False, True), asked.tokens
    ):
        given = {"folder": str(asked.model), "adapter": adapter, "precision": precision}
        given |= {"recomputed": recomputed, "tokens": tokens}
        line = [sys.executable, "-m", "benchmarks.memory", "--model", str(asked.model), "--worker", json.dumps(given)]
        ran = subprocess.run(line, check=True, capture_output=True, text=True, env={**os.environ, **ALLOCATOR})
        answer = json.loads(ran.stdout.splitlines()[-1])
        found.append(
            {
                "trained": "LoRA" if adapter else "all weights",
                "precision": precision,
                "recomputed": "yes" if recomputed else "no",
                "tokens": answer["tokens"],
                "estimate MiB": answer["estimate"] >> 20,
                "measured MiB": answer["measured"] >> 20,
                "estimate / measured": round(answer["estimate"] / answer["measured"], 2),
            }
        )
        print(found[-1], flush=True)
    print_table("peak memory", found)
    if asked.json:
        asked.json.write_text(json.dumps({**facts, "memory": found}, indent=1) + "\n", encoding="utf-8")


def _run(folder: str, adapter: bool, precision: str, recomputed: bool, tokens: int) -> dict[str, int]:
    """One run of STEPS steps of PACKS packs, its estimate, and the size of its largest pack."""
    import torch

    from twofold.demo.build import character_tokenizer
    from twofold.progress import Silent
    from twofold.runs.dry_run import dry_run
    from twofold.runs.train import train_recipe

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        tiny = Path(place) / "tiny"
        tiny_model(tiny, character_tokenizer())
        model = {"precision": precision, "activation_checkpointing": recomputed}
        model |= {"lora": {"rank": 16}} if adapter else {}
        train_recipe(recipe_of(Path(place) / "first", {"path": str(tiny), **model}, 8, 400))
        asked = recipe_of(Path(place) / "run", {"path": folder, **model}, 128, tokens)
        planned = dry_run(asked, Silent())
        if cuda := torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the mark
        train_recipe(asked)
        measured = torch.cuda.max_memory_allocated() if cuda else resident("VmHWM") - before
        return {"estimate": planned.memory.total, "measured": measured, "tokens": planned.pack_tokens}


def recipe_of(place: Path, model: dict[str, Any], words: int, tokens: int, **sections: Any) -> Any:
    """Pairs of some 2 · `words` tokens and a prompt as long as one answer, so many that a step has PACKS packs."""
    from twofold.config.load import Document, validate
    from twofold.config.schema import Recipe

    place.mkdir(exist_ok=True)
    rows = max(1, tokens // (3 * words)) * PACKS
    write_pairs(place / "pairs.jsonl", words, rows * STEPS)
    given = {
        "model": model,
        "data": {"train": str(place / "pairs.jsonl")},
        "training": {"batch_size": rows, "packing": {"tokens": tokens + 200}},
        "run": str(place / "run"),
        **sections,
    }
    return validate(Recipe, Document("benchmark", given, {}))


def write_pairs(file: Path, words: int, rows: int) -> None:
    """Prompts and answers of as many words each, unless another process has written them."""
    if file.is_file():
        return

    def text(start: int) -> str:
        return " ".join(WORDS[(start + i * i) % len(WORDS)] for i in range(words))

    pairs = [{"prompt": text(i), "chosen": text(i + 3), "rejected": text(i + 7)} for i in range(rows)]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")


def tiny_model(folder: Path, tokenizer: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, bos_token_id=None)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def resident(name: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
