"""Tokens per second and bytes sent of one process and of two: `python -m benchmarks.processes_speed`.

Each process has one core and one thread. The ways of training take turns, and the first step of each run is left out.
Bytes are what the loopback device carried, less what it carried in a run of one step; the formula is that of
docs/scale.md. The model is a random one of 52 million parameters, all of them trained.
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
from benchmarks.memory import PACKS, write_pairs
from benchmarks.processes_memory import SIZES
from benchmarks.reporting import median_interval, print_table
from benchmarks.turns import ONE_THREAD

LEFT_OUT, WORDS_OF_A_TEXT = 1, 32
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "1 process": (1, {"kind": "replicate"}),
    "2, replicate": (2, {"kind": "replicate"}),
    "2, shard": (2, {"kind": "shard"}),
}


def main() -> None:
    """Measure, print, write."""
    parser = command_line("benchmarks.processes_speed", __doc__)
    parser.add_argument("--turns", type=int, default=3, help="runs of each way")
    parser.add_argument("--steps", type=int, default=4, help="steps of a run")
    parser.add_argument("--tokens", type=int, default=512, help="size of packs")
    options = parser.parse_args()
    facts = circumstances("benchmarks.processes_speed")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_model(place / "base")
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
        for turn in range(options.turns):
            for name in WAYS:
                short, long = (_run(place, f"{turn}-{name}-{n}", name, n, options.tokens) for n in (1, options.steps))
                runs[name].append(_difference(short, long, options.steps - 1))
                print(name, runs[name][-1], flush=True)
    rows = [_row(name, runs) for name in WAYS]
    print_table("one process and two", rows)
    if options.json:
        options.json.write_text(json.dumps({**facts, "runs": runs, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _write_model(folder: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from twofold.demo.build import character_tokenizer

    LlamaForCausalLM(LlamaConfig(**SIZES, bos_token_id=None)).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)


def _run(place: Path, name: str, way: str, steps: int, tokens: int) -> dict[str, Any]:
    """Seconds of the steps of a run, and the bytes that the loopback device carried."""
    processes, world = WAYS[way]
    folder = place / name.replace(" ", "").replace(",", "-")
    folder.mkdir()
    rows = tokens // (3 * WORDS_OF_A_TEXT) * PACKS
    write_pairs(folder / "pairs.jsonl", WORDS_OF_A_TEXT, rows * 2)
    recipe = {
        "model": {"path": str(place / "base"), "precision": "float32", "device": "cpu"},
        "data": {"train": str(folder / "pairs.jsonl")},
        "training": {"batch_size": rows, "steps": steps, "packing": {"tokens": tokens + 200}},
        "world": world,
        "run": str(folder / "run"),
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    line = [sys.executable, "-m", "twofold", "train", str(folder / "recipe.yaml"), "--processes", str(processes)]
    before = loopback()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **ONE_THREAD})
    carried = loopback() - before
    lines = [json.loads(line) for line in (folder / "run" / "timings.jsonl").read_text("utf-8").splitlines()]
    return {"seconds": [line["seconds"] for line in lines][LEFT_OUT:], "bytes": carried}


def _difference(short: dict[str, Any], long: dict[str, Any], steps: int) -> dict[str, Any]:
    return {"seconds": long["seconds"], "bytes a step": (long["bytes"] - short["bytes"]) / steps}


def loopback() -> int:
    """Bytes that came in by the loopback device, which are also those that went out."""
    line = next(
        line for line in Path("/proc/net/dev").read_text("ascii").splitlines() if line.strip().startswith("lo:")
    )
    return int(line.split()[1])


def _row(name: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    own, first = ([s for run in runs[key] for s in run["seconds"]] for key in (name, "1 process"))
    gain = median_interval([a / b for a, b in zip(first, own, strict=True)])
    sent = median_interval([run["bytes a step"] / 1e6 for run in runs[name]])
    seconds = median_interval(own)
    return {"": name, "seconds a step": str(seconds), "speed": str(gain), "MB a step on the loopback": str(sent)}


if __name__ == "__main__":
    main()
