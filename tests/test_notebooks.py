"""Notebooks: their code compiles, uses names that exist, and does what its assertions claim."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import twofold

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CPU_SECONDS = 60
EXECUTE = """
import nbformat, sys
from nbclient import NotebookClient
NotebookClient(nbformat.read(sys.argv[1], 4), timeout=600, kernel_name="python3").execute()
"""


def cells(notebook: Path, kind: str) -> list[str]:
    document = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def unknown(source: str) -> Iterator[str]:
    """Names of twofold that `source` uses and twofold has not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tf":
            names = [] if node.attr.startswith("__") else [("twofold", node.attr)]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "twofold":
            names = [(str(node.module), alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if name not in (dir(twofold) if module == "twofold" else vars(import_module(module))):
                yield f"{module}.{name}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_compiles_and_uses_names_that_exist(notebook: Path) -> None:
    code = "\n".join(cells(notebook, "code"))
    assert list(unknown(code)) == []
    document = json.loads(notebook.read_text(encoding="utf-8"))
    assert [cell for cell in document["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_is_listed(notebook: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project.get("urls", {}).get("Repository", "https://github.com/OWNER/twofold")
    address = (
        f"{repository.replace('github.com', 'colab.research.google.com/github')}/blob/main/notebooks/{notebook.name}"
    )
    text = cells(notebook, "markdown")
    assert f"[Open in Colab]({address})" in text[0]
    assert f"(../../notebooks/{notebook.name})" in (ROOT / "docs/tutorial/notebooks.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(text))
    assert [link for link in links if "://" not in link and not (ROOT / "notebooks" / link).exists()] == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    source = "from twofold.batch import Role, Roll\nimport twofold as tf\ntf.DPO, tf.DPPO, tf.__file__"
    assert sorted(unknown(source)) == ["twofold.DPPO", "twofold.batch.Roll"]


def test_pdpo_by_hand_is_the_loss_of_the_package() -> None:
    names: dict[str, Any] = {}
    for cell in cells(ROOT / "notebooks" / "pdpo_by_hand.ipynb", "code"):
        exec(compile(cell, "pdpo_by_hand", "exec"), names)
    assert abs(names["by_hand"].item() - names["by_twofold"].item()) < 1e-6
    assert abs(names["by_hand"].item() - 0.6931) > 1e-3  # the policy is not its reference: the terms count


@pytest.mark.notebooks
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="no nbclient: pip install 'twofold[notebooks]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    before = sum(os.times()[2:4])
    command = [sys.executable, "-c", EXECUTE, str(notebook)]
    started = time.monotonic()
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    spent = sum(os.times()[2:4]) - before
    assert run.returncode == 0, run.stderr[-3000:]
    print(f"{notebook.name}: {spent:.0f} CPU seconds, {time.monotonic() - started:.0f} in all")
    assert 0 < spent < CPU_SECONDS
