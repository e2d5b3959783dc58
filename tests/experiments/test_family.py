"""The comparison of all objectives: DPO's stored figures, and a page whose other rows stay."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from experiments.family.__main__ import BASELINE, CURVES, baseline
from experiments.family.cells import Bench, Protocol
from experiments.family.methods import methods
from experiments.family.page import merged
from experiments.harness.pages import between, marks


def _bench(protocol: Protocol) -> Bench:
    return cast("Bench", SimpleNamespace(protocol=protocol))


def test_dpos_stored_figures_are_those_of_the_protocol(root: Path) -> None:
    """Else DPO would be trained again whenever an objective is added."""
    dpo, stored = methods()[BASELINE], root / CURVES / f"{BASELINE}.json"
    found = baseline(_bench(Protocol()), dpo, 1, stored)
    assert found is not None
    assert [look["step"] for look in found["evaluations"]] == [*range(0, 33, 4)]
    assert {"accuracy", "margin", "chosen", "rejected"} <= found["evaluations"][0].keys()
    assert [len(each["right"]) for each in found["judged"]] == [500]
    assert f"at learning rate {found['learning_rate']:g}," in (root / CURVES / f"{BASELINE}.svg").read_text()


@pytest.mark.parametrize("changed", [{"steps": 8}, {"test": 100}])
def test_figures_of_another_protocol_or_of_too_few_seeds_are_not_used(tmp_path: Path, changed: dict[str, Any]) -> None:
    dpo, stored = methods()[BASELINE], tmp_path / "dpo.json"
    assert baseline(_bench(Protocol()), dpo, 1, stored) is None
    found = {"protocol": asdict(Protocol()), "settings": repr(dpo.objective), "judged": [{"right": [1]}]}
    stored.write_text(json.dumps(found))
    assert baseline(_bench(Protocol()), dpo, 1, stored) == found
    assert baseline(_bench(Protocol()), dpo, 2, stored) is None
    assert baseline(_bench(Protocol(**changed)), dpo, 1, stored) is None
    assert baseline(_bench(Protocol()), methods()["ipo"], 1, stored) is None


def test_a_method_joins_the_page_and_its_other_rows_stay(root: Path) -> None:
    page = between(root / "docs" / "family.md", marks("python -m experiments.family"))
    blocks = page.strip("\n").split("\n\n")
    new = [
        "`python -m experiments.family --only xpo`, today",
        "| method | rate |\n| --- | ---: |\n| [xpo](objectives/xpo.md) | 1 |",
        blocks[2],
        "| solved of 256 | 5e-06 |\n| --- | ---: |\n| ipo | 3 |",
        "Settings:",
        "- `IPO(kind='ipo', tau=9)`",
    ]
    written = merged(page, "\n\n".join(new)).split("\n\n")
    assert written[0].splitlines() == [*blocks[0].splitlines(), new[0]]
    assert written[1].splitlines()[-1] == "| [xpo](objectives/xpo.md) | 1 |"
    assert len(written[1].splitlines()) == len(blocks[1].splitlines()) + 1
    assert len(written[3].splitlines()) == len(blocks[3].splitlines())
    assert "| ipo | 3 |" in written[3]
    assert written[4] == "Settings:"
    assert [a for a, b in zip(written[5].splitlines(), blocks[5].splitlines(), strict=True) if a != b] == [new[5]]


@pytest.mark.slow
def test_an_added_objective_trains_and_draws_itself_alone(tmp_path: Path, root: Path) -> None:
    """With DPO's figures stored, three trials of its own and nothing else."""
    command = [sys.executable, "-m", "experiments.family", "--quick", "--out", str(tmp_path), "--curves", str(tmp_path)]
    subprocess.run([*command, "--only", "dpo"], check=True, cwd=root, capture_output=True)
    done = subprocess.run([*command, "--only", "ipo"], check=True, cwd=root, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert [line.split("] ")[1].partition(",")[0] for line in lines] == ["ipo"] * 3
    assert (tmp_path / "ipo.svg").read_text().count("<polyline") == 8
