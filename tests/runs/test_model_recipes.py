"""The recipes for published models: each reads its set's rows through a tiny model of the same architecture, and takes
the memory that its opening comment names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from support import published
from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data.dataset import encode_rows
from twofold.data.tokenize import Encoder
from twofold.models.load import ModelSettings
from twofold.models.model_size import model_size
from twofold.models.planned import planned_gpu
from twofold.models.seq2seq import auto_class
from twofold.models.tokenizers import prepare
from twofold.progress import Silent
from twofold.runs.dataset import read_dataset
from twofold.runs.dry_run import DryRun, dry_run
from twofold.runs.forecast import GIB
from twofold.runs.shares import SHARE

FOLDER = Path(__file__).parents[2] / "recipes" / "models"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
MACHINE = re.compile(r"^# Machine: (\d) GPUs? of (\d+) GB; the dry run estimates ([\d.]+) GiB(?: for each)?\.$", re.M)
SHORT = ((12, 8), (14, 9), (16, 8), (13, 10), (15, 9), (17, 8), (18, 9), (19, 8), (20, 9), (21, 8))


def comment(name: str) -> tuple[int, int, float]:
    """Number of GPUs, GB of each, and the estimate in GiB, as the recipe's comment names them."""
    found = MACHINE.search((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert found, f"{name}: no line of the machine"
    return int(found[1]), int(found[2]), float(found[3])


class Heard(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def warn(self, message: str) -> None:
        self.texts.append(message)


def published_name(name: str) -> str:
    """The model that a recipe names."""
    return validate(Recipe, load_recipe(FOLDER / f"{name}.yaml")).model.path


def read(name: str, place: Path, lengths: tuple[tuple[int, int], ...], *more: str, tiny: bool) -> Recipe:
    path = FOLDER / f"{name}.yaml"
    return validate(Recipe, load_recipe(path, [*published.offline(path, place, lengths, tiny=tiny), *more]))


def long_rows(recipe: Recipe) -> tuple[tuple[int, int], ...]:
    """Rows of many lengths up to the recipe's limit, enough of them for full packs."""
    most, step = recipe.data.tokenize.max_length - 100, 7
    lengths = [most - (step * n * 16) % (most - 200) for n in range(recipe.training.batch_size)]
    return tuple((length // 3, length - length // 3) for length in lengths)


def planned(name: str, place: Path) -> DryRun:
    """The dry run of a recipe for its machine, from the real config and rows that fill packs."""
    count, gigabytes, _ = comment(name)
    lengths = long_rows(validate(Recipe, load_recipe(FOLDER / f"{name}.yaml")))
    with planned_gpu(int(gigabytes * 1e9)):
        return dry_run(read(name, place, lengths, tiny=False), processes=count)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_reads_the_rows_of_its_set(name: str, tmp_path: Path) -> None:
    """Every row, with nothing that the tokenizer of the model's family cannot render."""
    recipe = read(name, tmp_path, SHORT, tiny=True)
    heard = Heard()
    records = read_dataset(recipe, recipe.objective, progress=heard)
    tokenizer = published.tokenizer(published.CONFIGS[published_name(name)]["template"])
    prepare(tokenizer, recipe.model.add_tokens, recipe.model.template_arguments or {})
    groups = encode_rows(
        records.train, Encoder(tokenizer, frozenset({tokenizer.eos_token_id}), recipe.data.tokenize), tmp_path, heard
    )
    rows = 2 if recipe.objective.kind == "kto" else 1  # of a pair
    assert groups.num_groups == len(records.train) == rows * (len(SHORT) - len(records.generator))
    assert len(records.heldout) == (2 * rows if recipe.data.heldout else 0)
    assert len(records.tasks) == (2 if recipe.evaluation.tasks else 0)
    assert heard.texts == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_passes_a_dry_run(name: str, tmp_path: Path) -> None:
    found = dry_run(read(name, tmp_path, SHORT, "sampling.max_new_tokens=8", tiny=True))
    assert (found.used, found.steps) == (found.rows["train"], 1)


def check_memory(name: str, place: Path) -> None:
    _, gigabytes, named = comment(name)
    found = planned(name, place)
    assert found.memory.counted
    assert found.pack_tokens > 0.9 * read(name, place, SHORT, tiny=False).training.packing.tokens  # type: ignore[operator]  # a number
    assert found.memory.total / GIB == pytest.approx(named, rel=0.02)
    assert found.memory.total <= SHARE * gigabytes * 1e9


def test_the_memory_of_the_smallest_recipe(tmp_path: Path) -> None:
    check_memory("qwen2.5-0.5b-dpo-full-tldr", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_memory_of_every_recipe(name: str, tmp_path: Path) -> None:
    check_memory(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", published.CONFIGS)
def test_a_published_model_has_as_many_parameters(name: str, tmp_path: Path) -> None:
    folder = published.folder(tmp_path, name, tiny=False)
    assert model_size(ModelSettings(path=str(folder))).parameters == published.CONFIGS[name]["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_steps_in_tiny_form(name: str, tmp_path: Path) -> None:
    from twofold.runs.train import train_recipe

    few = ["training.steps=2", "training.batch_size=4", "sampling.max_new_tokens=8", "optimizer.warmup=0"]
    path = FOLDER / f"{name}.yaml"
    recipe = read(name, tmp_path, SHORT, *few, *_shorter(path), tiny=True)
    _with_weights(Path(recipe.model.path))
    assert train_recipe(recipe).outcome.step == 2
    assert (tmp_path / "run" / "model").is_dir()


def _shorter(path: Path) -> list[str]:
    return ["evaluation.sampling.max_new_tokens=8"] if "evaluation:" in path.read_text(encoding="utf-8") else []


def _with_weights(folder: Path) -> None:
    from transformers import AutoConfig

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder)
    family: type[AutoModelForCausalLM] = auto_class(config)
    family.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def test_every_recipe_is_in_the_table(root: Path) -> None:
    page = (root / "docs" / "model-recipes.md").read_text(encoding="utf-8")
    shown = re.findall(
        r"^\| \[[^]]+\]\(\.\./recipes/models/(.+?)\.yaml\) .*\| (\d) × (\d+) GB \| ([\d.]+) \|$", page, re.M
    )
    assert {name: (int(count), int(size), float(most)) for name, count, size, most in shown} == {
        name: comment(name) for name in RECIPES
    }
