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
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from typing import Any

from benchmarks.commands import command_line
from benchmarks.reporting import machine, print_facts, print_table, versions, write_json
from benchmarks.turns import ONE_THREAD, ROOT

VOCABULARY, SENTENCES, WORDS = 16_000, 20_000, 30_000
SENTENCES_A_SIDE = 5
MIB = 2**20
CHECKS: dict[str, tuple[str, ...]] = {
    "check": ("check", "DATA"),
    "near": ("check", "DATA", "--near", "0.8"),
    "against": ("check", "DATA", "--against", "EVALUATION"),
    "margin": ("check", "DATA", "--min-margin", "1"),
    "model": ("check", "DATA", "--model", "MODEL"),
    "report": ("report", "DATA", "--out", "PAGE"),
    "broken": ("check", "BROKEN"),
    "broken-json": ("check", "BROKEN", "--json"),
}
"""Verbs of `twofold data` and their arguments; words in capitals are files."""
PREPARE = "check, tokenize, keep"
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


def texts(seed: int, sentences: int = SENTENCES_A_SIDE) -> Iterator[dict[str, str]]:
    """Endless pairs, all different, each side of about so many sentences: five make 1 kB as JSON."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.choice((1, 2, 2, 3)))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    pool = [" ".join(draw.choices(words, weights, k=draw.randint(6, 14))).capitalize() + "." for _ in range(SENTENCES)]
    number, most = 0, (sentences, sentences * 7 // 5)
    while True:
        number += 1
        said = [" ".join(draw.choices(pool, k=k)) for k in (sentences, *(draw.randint(*most) for _ in range(2)))]
        if said[1] != said[2]:
            yield {"prompt": f"{number}. {said[0]}\n", "chosen": said[1], "rejected": said[2]}


def generate(path: Path, rows: int, sentences: int = SENTENCES_A_SIDE) -> None:
    """Write `rows` pairs as JSON lines, with scores and an origin."""
    draw = random.Random(2)
    with path.open("w", encoding="utf-8") as stream:
        for row in islice(texts(0, sentences), rows):
            scores = {"score_chosen": round(draw.gauss(2, 1), 3), "score_rejected": round(draw.gauss(0, 1), 3)}
            stream.write(json.dumps({**row, **scores, "source": draw.choice("abcd")}) + "\n")


def generate_broken(path: Path, rows: int) -> None:
    """Write rows that are all the same and all at fault: chosen is rejected, and holds a control character."""
    line = json.dumps({"prompt": "Why?", "chosen": "So.\x07", "rejected": "So.\x07"}) + "\n"
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(repeat(line, rows))


def generate_evaluation(path: Path) -> None:
    """Write 1,000 other prompts, and one that the pairs have."""
    with path.open("w", encoding="utf-8") as stream:
        for row in chain(islice(texts(3, 3), 1000), islice(texts(0), 1)):
            stream.write(json.dumps({"question": row["prompt"], "answer": "1"}) + "\n")


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


def measured(name: str, rows: int, command: Sequence[str | Path], code: int = 0, **environment: str) -> Cost:
    """Run `command` to its end, which must be this exit code."""
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
    if process.returncode != code:
        raise SystemExit(f"{name} failed with exit code {process.returncode}:\n{said.decode()}")
    seconds = time.perf_counter() - before
    cost = Cost(name, rows, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    print_facts("measured", cost.row())
    return cost


def checks(folder: Path, data: Path, rows: int, names: Sequence[str]) -> list[Cost]:
    """Each of the checks with these names."""
    files = {"DATA": data, "MODEL": folder / "model", "PAGE": folder / "page.html"}
    files |= {name: folder / f"{name.lower()}.jsonl" for name in ("BROKEN", "EVALUATION")}
    generate_evaluation(files["EVALUATION"])
    costs = list[Cost]()
    for name in names:
        broken, words = "BROKEN" in CHECKS[name], CHECKS[name]
        if broken:
            generate_broken(files["BROKEN"], rows)
        command = [sys.executable, "-m", "twofold", "data", *(files.get(word, word) for word in words)]
        costs.append(measured(" ".join(["data", *words]), rows, command, code=2 if broken else 0))
    return costs


def ours(folder: Path, data: Path, rows: int, *, check: bool) -> list[Cost]:
    """The check, the first preparation and the second one, which finds the first one's cache."""
    twofold = [sys.executable, "-m", "twofold"]
    checked = [measured("data check", rows, [*twofold, "data", "check", data])] if check else []
    recipe = folder / f"{data.stem}.yaml"
    cache = folder / f"cache-{data.stem}"
    recipe.write_text(
        f"model: {{path: {folder / 'model'}}}\ndata: {{train: {data}, cache: {cache}}}\nrun: {folder / 'run'}\n",
        encoding="utf-8",
    )
    prepare = [*twofold, "train", recipe, "--dry-run"]
    return [
        *checked,
        measured(PREPARE, rows, prepare),
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
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000], help="sizes, the smallest first")
    parser.add_argument("--sentences", type=int, default=SENTENCES_A_SIDE, help="of each side of a pair")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, help="measure these checks alone")
    parser.add_argument("--only-check", action="store_const", dest="checks", const=["check"], help="--checks check")
    parser.add_argument("--no-check", action="store_true", help="prepare the rows without a check before it")
    parser.add_argument("--trl-python", help="a Python that has TRL, for the first size; without it ours alone")
    options = parser.parse_args(arguments)
    facts, costs, sizes = machine(), list[Cost](), list[tuple[int, float]]()
    peer: Cost | None = None
    print_facts("machine", facts)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # In a process of its own: the kernel counts the memory of the process that starts another as that one's, too.
        make = "import sys, pathlib, benchmarks.data_scale as b; b.model(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(folder / "model")], check=True, cwd=ROOT)
        for rows in options.rows:
            data = folder / f"rows-{rows}.jsonl"
            generate(data, rows, options.sentences)
            print_facts("file", {"rows": rows, "MiB": round(data.stat().st_size / MIB)})
            if options.checks:
                costs += checks(folder, data, rows, options.checks)
            else:
                costs += ours(folder, data, rows, check=not options.no_check)
            if options.trl_python and peer is None:
                peer = theirs(folder, data, rows, options.trl_python)
            cache = folder / f"cache-{data.stem}"
            sizes.append((rows, sum(p.stat().st_size for p in cache.glob("*")) / MIB))
            data.unlink()
            shutil.rmtree(cache, ignore_errors=True)  # few rows are held in memory
    result = report(costs, peer, sizes)
    if options.json:
        used = {"ours": versions(sys.executable)} | (
            {"TRL": versions(options.trl_python)} if options.trl_python else {}
        )
        write_json(options.json, {"machine": facts, "versions": used, **result})


def report(costs: Sequence[Cost], peer: Cost | None, sizes: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """Print the table and what follows from it: what a further row costs from each size to the next."""
    print_table("Preference pairs at scale", [cost.row() for cost in [*costs, *([peer] if peer else [])]])
    further = [each for name in dict.fromkeys(cost.name for cost in costs) for each in slopes(costs, name)]
    if further:
        print_table("What a further row costs", further)
    facts: dict[str, Any] = {f"MiB on disk, {rows} rows": round(mib) for rows, mib in sizes}
    if peer:
        first = next(cost for cost in costs if cost.name == PREPARE)
        facts["ours over TRL, rows per CPU-second"] = peer.processor_seconds / first.processor_seconds
        facts["ours over TRL, seconds"] = peer.seconds / first.seconds
    print_facts("so", facts)
    return {"costs": [asdict(cost) for cost in costs], "slopes": further, **facts}


def slopes(costs: Sequence[Cost], name: str) -> list[dict[str, object]]:
    """Of one step, from each size to the next: processor time and peak memory of a further row."""
    sizes = [cost for cost in costs if cost.name == name]
    return [
        {
            "step": name,
            "from": few.rows,
            "to": many.rows,
            "CPU µs": round((many.processor_seconds - few.processor_seconds) / (many.rows - few.rows) * 1e6, 1),
            "bytes": round((many.peak_mib - few.peak_mib) * MIB / (many.rows - few.rows)),
        }
        for few, many in pairwise(sizes)
    ]


if __name__ == "__main__":
    main()
