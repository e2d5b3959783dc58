"""The page of architectures says what the trial at load finds."""

from __future__ import annotations

import pytest

from scripts import make_architecture_page

SAMPLE = (
    "bert", "bloom", "cohere", "falcon", "gpt2", "gpt_oss", "granite", "llama", "mamba", "mpt", "nemotron", "phi",
    "stablelm",
)  # fmt: skip


def lines() -> list[str]:
    return make_architecture_page.PAGE.read_text(encoding="utf-8").splitlines(keepends=True)


@pytest.mark.parametrize("kind", SAMPLE)
def test_a_sample_is_fresh(kind: str) -> None:
    found = [str(line) for line in make_architecture_page.lines(kind)]
    written = [line for line in lines() if line.startswith((f"| `{kind}` |", f"| `{kind}` ["))]
    assert found == written, "run: python scripts/make_architecture_page.py"


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_a_sample_of_encoders_is_fresh(kind: str) -> None:
    page = lines()
    after = page[page.index("## Encoders with a decoder\n") :]
    assert str(make_architecture_page.encoded_line(kind)) in after, "run: python scripts/make_architecture_page.py"


def test_enough_types_are_tried() -> None:
    tried = {line.split()[1] for line in lines() if line.startswith("| ") and "not tried" not in line}
    assert len(tried) >= 150


@pytest.mark.slow
def test_the_page_is_fresh() -> None:
    assert "".join(lines()) == make_architecture_page.page(), "run: python scripts/make_architecture_page.py"
