"""Files of a run are UTF-8, also on a machine whose own encoding is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.made_up_runs import run_data
from twofold.reports import checks, pages
from twofold.reports.card import write_card
from twofold.reports.live import Live
from twofold.reports.run import read_run


@pytest.fixture(autouse=True)
def latin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is latin-1 wherever no encoding is named."""
    read, write = Path.read_text, Path.write_text

    def read_text(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        return read(path, encoding or "latin-1", errors)

    def write_text(path: Path, data: str, encoding: str | None = None, **more: Any) -> int:
        return write(path, data, encoding or "latin-1", **more)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(Path, "write_text", write_text)


def put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def test_names_commands_and_recipes_are_in_their_own_letters(tmp_path: Path) -> None:
    put(tmp_path / "results.json", {"name": "Müller", "command": "twofold train é.yaml"})
    put(tmp_path / "environment.json", {"prompts": "中文"})
    put(tmp_path / "explain.json", {"rows": [], "title": "ß"})
    (tmp_path / "resolved.yaml").write_text("run: Zoë\n", encoding="utf-8")
    run = read_run(tmp_path)
    assert (run.name, run.results.command, run.recipe) == ("Müller", "twofold train é.yaml", "run: Zoë\n")
    assert (run.settings, run.environment, run.extra["explain"]["title"]) == ({"run": "Zoë"}, {"prompts": "中文"}, "ß")
    assert "# Müller" in write_card(tmp_path).read_text(encoding="utf-8")


def test_bytes_that_are_no_text_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "resolved.yaml").write_bytes(b"run: a\xff\n")
    assert (read_run(tmp_path).recipe, read_run(tmp_path).faults) == ("run: a\ufffd\n", ())


def test_the_split_of_an_earlier_stage_is_read_in_its_own_letters(tmp_path: Path) -> None:
    """The same rows are left out, of a file with a name that latin-1 would misread."""
    stage = tmp_path / "étape"
    (stage / "model").mkdir(parents=True)
    put(stage / "environment.json", {"data": {"train": {"sha256": "é"}}})
    (stage / "resolved.yaml").write_text("data: {heldout: 0.1, split: zufällig}\n", encoding="utf-8")
    data = {"heldout": 0.1, "split": "zufällig"}
    run = run_data(
        settings={"model": {"path": str(stage / "model")}, "data": data},
        environment={"data": {"train": {"sha256": "é"}}},
    )
    assert checks.overlap(run) == []
    other = run_data(
        settings={"model": {"path": str(stage / "model")}, "data": {**data, "split": "anders"}},
        environment={"data": {"train": {"sha256": "é"}}},
    )
    assert checks.overlap(other) == [
        "the base (étape) was trained on the file that the heldout rows come from",
    ]  # fmt: skip


def test_the_number_of_steps_is_read(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"steps": 4, "é": 1}', encoding="utf-8")
    assert Live(tmp_path).look().steps == 4


def test_pages_are_written_as_utf8(tmp_path: Path) -> None:
    page = pages.write_page(tmp_path / "page.html", "é 中文")
    assert page.read_bytes() == "é 中文".encode()
