"""docs/extend.md says what it takes to add a judge; its block is run here, and every setting knows the judge."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from twofold.algorithms import Online, PolicyGradient
from twofold.batch import Branch, Group, Role
from twofold.datagen.build import BuildSettings
from twofold.datagen.score import ScoreSettings, score
from twofold.judges.base import DraftResources, JudgeKind, JudgeResources
from twofold.judges.drafts import open_draft_judge
from twofold.judges.gates import GateSettings, open_gate
from twofold.judges.registry import GATE, KINDS, PLACES, REWARD, parse_judge
from twofold.ledger import Ledger
from twofold.progress import Silent

NAME = "regex:^(yes|no): "


def text(tokens: torch.Tensor) -> str:
    return bytes(tokens.tolist()).decode()


def tokens(written: str) -> torch.Tensor:
    return torch.tensor(list(written.encode()))


@pytest.fixture(autouse=True)
def regex(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's file, and its one line."""
    section = (root / "docs" / "extend.md").read_text(encoding="utf-8").partition("\n## A judge\n")[2]
    block = re.findall(r"^```python \S+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[0]
    names: dict[str, type[JudgeKind]] = {}
    exec(compile(block, "docs/extend.md", "exec"), names)
    monkeypatch.setitem(KINDS, "regex", names["RegexKind"])


def test_every_setting_takes_it() -> None:
    assert all(parse_judge(NAME, place).argument == "^(yes|no): " for place in PLACES)
    assert PolicyGradient(reward=NAME).rewards[0].source == NAME
    assert Online(judge=NAME).is_rewarded
    assert GateSettings(source=NAME).at_least is None
    assert BuildSettings(judge=NAME, form="labels").threshold is None


def test_it_scores_texts(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": "p", "answers": ["yes: it is", "maybe: it is"]}) + "\n")
    scored = score(str(file), ScoreSettings(judge=NAME), tmp_path / "out.jsonl", pytest.fail, Silent())
    assert scored.scores == [[1.0, 0.0]]
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["scored_by"] == {"kind": "regex", "pattern": "^(yes|no): "}


def test_it_rates_drafts_and_gates_them(tmp_path: Path) -> None:
    drafts = tuple(Branch(tokens(said), Role.DRAFT) for said in ("no: never", "never"))
    group = Group("f:1", tokens("why?"), drafts, tokens("yes: because"))
    for place in (REWARD, GATE):
        resources = JudgeResources(place, lambda: Ledger(tmp_path / "ledger"))
        given = DraftResources(resources, text, frozenset(), pytest.fail)
        with ExitStack() as stack:
            assert open_draft_judge(NAME, given, stack, [group]).rate([group]) == [[1.0, 0.0]]
            if place is GATE:
                assert open_gate(GateSettings(source=NAME), given, stack, [group]).rate([group]) == [[1.0, 0.0]]
