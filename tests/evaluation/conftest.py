"""Two models that are known by heart: `simple` and `wise` answer words with numbers, each in its own way."""

from __future__ import annotations

import pytest

from support.speakers import speaker

WORDS = "one two , Q: A: think ? #### 1 2 3 4 5 7 9 seven eight la"


@pytest.fixture(scope="session")
def simple(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Says `#### 4` to four, `5` to five, and without end `la la la` to la."""
    table = {"four": "####", "####": "4", "five": "5", "la": "la"}
    return speaker(tmp_path_factory.mktemp("simple"), table, words=WORDS)


@pytest.fixture(scope="session")
def wise(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Says `#### 5` to four and five, `1` to la."""
    table = {"four": "####", "####": "5", "five": "####", "la": "1"}
    return speaker(tmp_path_factory.mktemp("wise"), table, words=WORDS)


@pytest.fixture(scope="session")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Says `7` behind A:, which its chat template puts before an answer."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}A: {% else %}Q: {% endif %}{{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}A:{% endif %}"
    )
    folder = tmp_path_factory.mktemp("chatty")
    return speaker(folder, {"A:": "7"}, words=f"four five {WORDS}", chat_template=template)
