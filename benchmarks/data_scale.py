"""Preference pairs by the million: checked and tokenized in bounded memory, again from the cache, beside TRL.

Ours is the command line itself, `twofold data check FILE` and `twofold train RECIPE --dry-run`, which checks, keeps the
rows, tokenizes and keeps the tokens. TRL's is `load_dataset` and `DPOTrainer._prepare_dataset` on the first rows of the
same file with the same tokenizer, without the rest of a trainer and with its default of one process. Tokenizers may use
threads on both sides: they do so for texts in batches, which is ours.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.commands import command_line
from benchmarks.reporting import machine, print_facts, print_table, versions, write_json
from benchmarks.turns import ONE_THREAD, ROOT

VOCABULARY, SENTENCES, WORDS = 16_000, 20_000, 30_000
MIB = 2**20
QUIET = {k: v for k, v in ONE_THREAD.items() if k != "TOKENIZERS_PARALLELISM"}


@dataclass(frozen=True)
class Cost:
    """What one process took: wall and processor seconds, and the kernel's mark of its memory."""

    name: str
    rows: int
    seconds: float
    processor_seconds: float
    peak_mib: float

    def row(self) -> dict[str, object]:
        """As a line of the table."""
        return {
            "step": self.name,
            "rows": self.rows,
            "seconds": round(self.seconds, 1),
            "CPU seconds": round(self.processor_seconds, 1),
            "rows per CPU-second": round(self.rows / self.processor_seconds),
            "peak MiB": round(self.peak_mib),
        }


def texts(seed: int) -> Iterator[dict[str, str]]:
    """Endless pairs, all different, of about 1 kB as JSON."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.choice((1, 2, 2, 3)))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    pool = [" ".join(draw.choices(words, weights, k=draw.randint(6, 14))).capitalize() + "." for _ in range(SENTENCES)]
    number = 0
    while True:
        number += 1
        said = [" ".join(draw.choices(pool, k=k)) for k in (5, draw.randint(5, 7), draw.randint(5, 7))]
        yield {"prompt": f"{number}. {said[0]}\n", "chosen": said[1], "rejected": said[2]}


def generate(path: Path, rows: int) -> None:
    """Write `rows` pairs as JSON lines."""
    with path.open("w", encoding="utf-8") as stream:
        for row in islice(texts(0), rows):
            stream.write(json.dumps(row) + "\n")


def model(folder: Path) -> None:
    """A byte-level BPE tokenizer of such texts, and the configuration of a model without weights."""
    from transformers import PreTrainedTokenizerFast, Qwen2Config

    from benchmarks.byte_level import byte_level

    core = byte_level(("".join(row.values()) for row in islice(texts(1), 20_000)), VOCABULARY, ["<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    eos: Any = tokenizer.eos_token_id
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
    }
    Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, eos_token_id=eos, **sizes).save_pretrained(folder)


def measured(name: str, rows: int, command: Sequence[str | Path], **environment: str) -> Cost:
    """Run `command` to its end; it must succeed."""
    before = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    said = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{name} failed with exit code {process.returncode}:\n{said.decode()}")
    seconds = time.perf_counter() - before
    cost = Cost(name, rows, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    print_facts("measured", cost.row())
    return cost


def ours(folder: Path, data: Path, rows: int) -> list[Cost]:
    """The check, the first preparation and the second one, which finds the first one's cache."""
    recipe = folder / f"{data.stem}.yaml"
    cache = folder / f"cache-{data.stem}"
    recipe.write_text(
        f"model: {{path: {folder / 'model'}}}\ndata: {{train: {data}, cache: {cache}}}\nrun: {folder / 'run'}\n",
        encoding="utf-8",
    )
    twofold = [sys.executable, "-m", "twofold"]
    prepare = [*twofold, "train", recipe, "--dry-run"]
    return [
        measured("data check", rows, [*twofold, "data", "check", data]),
        measured("check, tokenize, keep", rows, prepare),
        measured("the same from cache", rows, prepare),
    ]


def theirs(folder: Path, data: Path, rows: int, python: str) -> Cost:
    """TRL's preparation of the first `rows` rows."""
    part = folder / "part.jsonl"
    with data.open(encoding="utf-8") as whole, part.open("w", encoding="utf-8") as stream:
        stream.writelines(islice(whole, rows))
    worker = [python, "-m", "benchmarks.data_scale_trl", folder / "model", part]
    return measured("TRL: load, tokenize", rows, worker, HF_HOME=str(folder / "hf"), HF_DATASETS_OFFLINE="1")


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate, measure, print."""
    parser = command_line("benchmarks.data_scale", __doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--small", type=float, default=0.1, help="share of the rows for the memory's slope and for TRL")
    parser.add_argument("--trl-python", help="a Python that has TRL; without it ours alone is measured")
    options = parser.parse_args(arguments)
    fewer = max(1, round(options.rows * options.small))
    facts = machine()
    print_facts("machine", facts)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # In a process of its own: the kernel counts the memory of the process that starts another as that one's, too.
        make = "import sys, pathlib, benchmarks.data_scale as b; b.model(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(folder / "model")], check=True, cwd=ROOT)
        whole, part = folder / "whole.jsonl", folder / "few.jsonl"
        generate(part, fewer)
        few = ours(folder, part, fewer)
        peer = theirs(folder, part, fewer, options.trl_python) if options.trl_python else None
        part.unlink()
        generate(whole, options.rows)
        print_facts("file", {"rows": options.rows, "MiB": round(whole.stat().st_size / MIB)})
        many = ours(folder, whole, options.rows)
        kept = sum(p.stat().st_size for p in (folder / "cache-whole").glob("*")) / MIB
    result = report(few, many, peer, kept)
    if options.json:
        used = {"ours": versions(sys.executable)} | (
            {"TRL": versions(options.trl_python)} if options.trl_python else {}
        )
        write_json(options.json, {"machine": facts, "versions": used, **result})


def report(few: Sequence[Cost], many: Sequence[Cost], peer: Cost | None, kept: float) -> dict[str, Any]:
    """Print the table and what follows from it."""
    costs = [*few, *([peer] if peer else []), *many]
    print_table("Preference pairs at scale", [cost.row() for cost in costs])
    more = many[1].rows - few[1].rows
    facts: dict[str, Any] = {"bytes of memory per further row": (many[1].peak_mib - few[1].peak_mib) * MIB / more}
    facts["MiB on disk"] = round(kept)
    if peer:
        facts["ours over TRL, rows per CPU-second"] = peer.processor_seconds / few[1].processor_seconds
        facts["ours over TRL, seconds"] = peer.seconds / few[1].seconds
    print_facts("so", facts)
    return {"costs": [asdict(cost) for cost in costs], **facts}


if __name__ == "__main__":
    main()
