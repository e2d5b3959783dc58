"""Peak memory of each of several processes beside what `--dry-run --processes N` says: `python -m
benchmarks.processes_memory`. The model is a random one of 52 million parameters, all of them trained.

A process's peak is the kernel's high-water mark of resident memory, less what was resident before the model was loaded,
after a run of a tiny model has brought in every library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.commands import circumstances, command_line
from benchmarks.memory import ALLOCATOR, recipe_of, resident, tiny_model
from benchmarks.reporting import print_table

SIZES: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 9,
    "tie_word_embeddings": True,
}
WAYS: tuple[dict[str, Any], ...] = (
    {"kind": "replicate"},
    {"kind": "shard", "reduce": "step"},
    {"kind": "shard", "reduce": "pack"},
)


def main() -> None:
    parser = command_line("benchmarks.processes_memory", __doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--tokens", type=int, default=512, help="size of packs")
    parser.add_argument("--model", type=Path, help="a model folder in place of the random one")
    parser.add_argument("--worker", type=Path, help="a folder with what one process is to do")
    asked = parser.parse_args()
    if asked.worker is not None:
        _run(asked.worker)
        return
    facts, found = circumstances("benchmarks.processes_memory"), list[dict[str, Any]]()
    for processes in asked.processes:
        for way in WAYS if processes > 1 else WAYS[:1]:
            found.append(_measured(processes, way, asked.tokens, asked.model))
            print(found[-1], flush=True)
    print_table("peak memory of a process", found)
    if asked.json:
        asked.json.write_text(json.dumps({**facts, "memory": found}, indent=1) + "\n", encoding="utf-8")


def _measured(processes: int, way: dict[str, Any], tokens: int, model: Path | None) -> dict[str, Any]:
    """A line of the table: the process that took most."""
    with tempfile.TemporaryDirectory() as place:
        task = {"way": way, "tokens": tokens, "processes": processes, "model": None if model is None else str(model)}
        (Path(place) / "task.json").write_text(json.dumps(task), encoding="utf-8")
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        line = [sys.executable, *(run if processes > 1 else []), "-m", "benchmarks.processes_memory", "--worker", place]
        single = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        subprocess.run(line, check=True, env={**os.environ, **ALLOCATOR, **single})
        every = [json.loads(path.read_text("utf-8")) for path in sorted(Path(place).glob("rank-*.json"))]
    measured = max(each["measured"] for each in every)
    return {
        "processes": processes,
        "kind": way["kind"],
        "gradients summed": f"once a {way['reduce']}" if "reduce" in way else "",
        "estimate MiB": every[0]["estimate"] >> 20,
        "measured MiB": measured >> 20,
        "estimate / measured": round(every[0]["estimate"] / measured, 2),
    }


def _run(place: Path) -> None:
    """What one process does: a run of a tiny model, then that of the model whose memory is of interest."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from twofold.demo.build import character_tokenizer
    from twofold.progress import Silent
    from twofold.runs.dry_run import dry_run
    from twofold.runs.train import train_recipe
    from twofold.world import join

    torch.set_num_threads(1)
    here, task = join(), json.loads((place / "task.json").read_text("utf-8"))
    tiny, base = place / "tiny", Path(task["model"] or place / "base")
    if here.first:
        tokenizer = character_tokenizer()
        tiny_model(tiny, tokenizer)
        if task["model"] is None:
            LlamaForCausalLM(LlamaConfig(**SIZES, bos_token_id=None)).save_pretrained(base)
            tokenizer.save_pretrained(base)
    model = {"precision": "float32", "device": "cpu"}
    if not here.first:
        here.wait()  # until the first process has written the rows
    first = recipe_of(place / "first", {"path": str(tiny), **model}, 8, 400, world=task["way"])
    asked = recipe_of(place / "run", {"path": str(base), **model}, 32, task["tokens"], world=task["way"])
    planned = dry_run(asked, Silent(), here.size) if here.first else None
    if here.first:
        here.wait()
    here.wait()
    train_recipe(first)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the mark
    train_recipe(asked)
    measured = {"measured": resident("VmHWM") - before, "estimate": planned.memory.total if planned else 0}
    (place / f"rank-{here.rank}.json").write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
