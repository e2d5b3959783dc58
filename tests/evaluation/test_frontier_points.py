"""`frontier` of dice whose KL from each other is known exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from support.frozen import refuse_changes
from support.heard import Heard
from support.openai_stub import Stub, said
from support.speakers import speaker
from twofold.errors import ModelError, RecipeError
from twofold.evaluation.frontier import FrontierSettings, ModelCheckpoint, frontier
from twofold.evaluation.hull import Point, areas, best_of
from twofold.models.heads import load_reward_model
from twofold.models.load import ModelSettings, save_policy
from twofold.records import Record, Request, Source, Task
from twofold.statistics import bootstrap_ratio
from twofold.training.checkpoint import save

ROWS: list[Record] = [
    Task(prompt, "#### 1", Source("t", i)) for i, prompt in enumerate(("roll", "one roll", "two roll", "one roll"), 1)
]
PROMPTS = 3
HOW: dict[str, Any] = {"reward": "verifier:flexible", "max_new_tokens": 4, "samples": 4}
KL = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)


def dice(folder: Path, one: float, **words: str) -> str:
    """Answers `1` with this probability, else `2`."""
    return speaker(folder, {"roll": {"1": one, "2": 1 - one}}, words="one two 7", **words)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("dice")
    return {name: dice(folder / name, p) for name, p in (("even", 0.5), ("loaded", 0.9), ("sure", 1 - 1e-9))}


def points(rows: list[dict[str, Any]], model: str) -> Point:
    """The point of a model's rows; every answer has two tokens, its stop token among them."""
    own = [row for row in rows if row["model"] == model]
    assert [row["prompt"] for row in own] == list(range(1, PROMPTS + 1))
    return Point([r["kl"] for r in own], [r["kl_drawn"] for r in own], [r["reward"] for r in own], 2.0, 0.0)


def test_every_figure_and_every_row(models: dict[str, str]) -> None:
    even, loaded, sure = models.values()
    heard = Heard()
    found = frontier([loaded, sure, loaded], ROWS, **HOW, reference=even, best_of=(2, 6), seed=2, progress=heard)
    base, one, two = (points(found.rows, name) for name in ("reference", loaded, sure))
    assert found.figures == {
        "reward": {"kind": "verifier", "metric": "flexible"}, "reference": base.as_dict(), "prompts": PROMPTS,
        "samples": 4, "seed": 2, "max_new_tokens": 4,
        "points": [{"model": loaded, "step": None, **one.as_dict()}, {"model": sure, "step": None, **two.as_dict()}],
        "areas": (heights := areas(base, {loaded: [[one]], sure: [[two]]})) and heights.as_dict(),
        "best_of": best_of([[1.0] * round(6 * r) + [0.0] * round(6 * (1 - r)) for r in base.reward], (2, 6)),
    }  # fmt: skip
    assert base.kl == base.drawn == [0.0] * PROMPTS
    assert one.kl == pytest.approx([KL] * PROMPTS, abs=1e-5)
    assert one.drawn == pytest.approx([r * math.log(1.8) + (1 - r) * math.log(0.2) for r in one.reward], abs=1e-5)
    assert two.kl == pytest.approx([math.log(2)] * PROMPTS, abs=1e-5)
    assert (two.reward, {4 * r % 1 for r in one.reward}, {6 * r % 1 for r in base.reward}) == ([1.0] * 3, {0}, {0})
    assert heard.notes == [f"{even}: 3 prompts, the reference", f"{loaded}: 3 prompts", f"{sure}: 3 prompts"]


def test_seeds_of_a_method_are_one_and_a_model_alone_is_its_own(models: dict[str, str]) -> None:
    even, loaded, sure = models.values()
    found = frontier([loaded, sure], ROWS, **HOW, reference=even, methods={loaded: "M", sure: "M"})
    base, one, two = (points(found.rows, name) for name in ("reference", loaded, sure))
    heights = areas(base, {"M": [[one], [two]]})
    assert heights is not None
    assert found.figures["areas"] == heights.as_dict()
    assert found.figures["seed"] == 0
    assert "best_of" not in found.figures
    assert "areas" not in frontier([even], ROWS, **HOW, reference=even).figures  # it did not move


def test_the_reference_answers_as_often_as_it_must(models: dict[str, str]) -> None:
    """As many samples as the largest of best_of, or as everyone; by default one."""
    even, loaded, _ = models.values()
    for how, base, own in (
        ({"samples": 3, "best_of": (2,)}, 3, 3), ({"samples": 1, "best_of": (8,)}, 8, 1), ({}, 1, 1),
    ):  # fmt: skip
        rows = frontier([loaded], ROWS, reward="verifier:flexible", reference=even, **how).rows
        for model, samples in (("reference", base), (loaded, own)):
            assert {round(samples * r["reward"], 6) % 1 for r in rows if r["model"] == model} == {0}
        shares = [r["reward"] for r in rows if r["model"] == "reference"]
        assert base < 8 or any(4 * share % 1 for share in shares)  # eighths, not quarters


def test_a_prompt_counts_once_by_its_first_row(models: dict[str, str]) -> None:
    rows: list[Record] = [Task("roll", "#### 1", Source("t", 1)), Task("roll", "#### 2", Source("t", 2))]
    found = frontier([models["sure"]], rows, **HOW, reference=models["even"])
    assert [r["reward"] for r in found.rows if r["model"] == models["sure"]] == [1.0]


def run_with_checkpoints(folder: Path, weights: dict[int, str]) -> str:
    """A run whose model is that of the last step, and which kept the weights of each step."""
    dice(folder / "model", 0.5)
    for step, source in weights.items():
        save(folder / "checkpoints", step, {"policy": load_file(Path(source) / "model.safetensors")}, {}, keep=None)
    return str(folder)


def test_each_checkpoint_of_a_run_is_a_point(models: dict[str, str], tmp_path: Path) -> None:
    even, loaded, sure = models.values()
    run, heard = run_with_checkpoints(tmp_path / "run", {10: sure, 9: loaded}), Heard()
    found = frontier([run, loaded], ROWS, **HOW, reference=even, checkpoints=True, progress=heard)
    assert [(p["model"], p["step"]) for p in found.figures["points"]] == [(run, 9), (run, 10), (loaded, None)]
    told = [p["kl"]["value"] for p in found.figures["points"]]
    assert told == pytest.approx([KL, math.log(2), KL], abs=1e-5)
    assert heard.notes[1:] == [f"{run}, step 9: 3 prompts", f"{run}, step 10: 3 prompts", f"{loaded}: 3 prompts"]
    base, *own = (points(found.rows, name) for name in ("reference", f"{run}, step 9", f"{run}, step 10", loaded))
    heights = areas(base, {run: [own[:2]], loaded: [own[2:]]})
    assert heights is not None
    assert found.figures["areas"] == heights.as_dict()
    last = frontier([run], ROWS, **HOW, reference=even).figures["points"]
    assert [(p["step"], p["kl"]["value"]) for p in last] == [(None, pytest.approx(0, abs=1e-6))]


def test_checkpoints_that_cannot_be_read_are_named(models: dict[str, str], tmp_path: Path) -> None:
    run = run_with_checkpoints(tmp_path / "run", {1: models["loaded"]})
    weights = load_file(Path(models["loaded"]) / "model.safetensors")
    folder = save(
        tmp_path / "run" / "checkpoints",
        2,
        {"policy": {**weights, "odd": weights["lm_head.weight"] + 0}},
        {},
        keep=None,
    )
    how: dict[str, Any] = {**HOW, "reference": models["even"], "checkpoints": True}
    with pytest.raises(ModelError) as refused:
        frontier([run], ROWS, **how)
    assert str(refused.value) == (
        f"{folder}: holds weights that the run's model has not (odd)\n  → choose another step of this run"
    )
    (tmp_path / "run" / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(RecipeError) as refused:
        frontier([run], ROWS, **how)
    assert str(refused.value) == (
        f"{run}: checkpoints of adapters are not read\n  → leave out --checkpoints, or save runs of several lengths"
    )


def test_the_reference_gets_prompts_as_all_models_do(tmp_path: Path) -> None:
    """A model that was trained on bare text says so in its tokenizer: then the reference gets bare text too."""
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %} 7{% endif %}"
    table: dict[str, Any] = {"roll": "1", "7": "2"}
    chat, text = (speaker(tmp_path / n, table, words="one two", chat_template=template) for n in ("chat", "text"))
    settings = tmp_path / "text" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "twofold_chat": "text"}))
    how: dict[str, Any] = {**HOW, "reference": chat, "samples": 1}
    for names, style, rewards in (
        ([text], "auto", [1.0, 1.0]), ([chat], "auto", [0.0, 0.0]), ([chat, text], "auto", [0.0, 0.0, 1.0]),
        ([chat, text], "text", [1.0, 1.0, 1.0]), ([chat, text], "chat", [0.0, 0.0, 0.0]),
    ):  # fmt: skip
        found = frontier(names, ROWS[:1], **how, style=style)
        assert [row["reward"] for row in found.rows] == rewards, (names, style)


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "Score: 7")
    yield server
    server.close()


def test_a_server_that_scores_is_asked_once(stub: Stub, models: dict[str, str], tmp_path: Path) -> None:
    even, loaded, _ = models.values()
    rubric = tmp_path / "rubric.jinja"
    rubric.write_text("Mine. {{ prompt }} {{ completion }} {{ truth }} {{ fence }}")
    how: dict[str, Any] = {"reward": f"llm-score:{stub.url}#j", "reference": even, "samples": 2, "rubric": str(rubric)}
    with pytest.raises(RecipeError) as refused:
        frontier([loaded], ROWS, **how)
    assert str(refused.value) == "--reward: no folder for a server's answers\n  → add --out FOLDER"
    found = frontier([loaded], ROWS, **how, out=tmp_path / "out")
    assert {row["reward"] for row in found.rows} == {7.0}
    assert all(said(body).startswith("Mine.") and "#### 1" in said(body) for body in stub.requests)
    requests = len(stub.requests)
    assert frontier([loaded], ROWS, **how, out=tmp_path / "out") == found
    assert (len(stub.requests), (tmp_path / "out" / "ledger.jsonl").is_file()) == (requests, True)


def test_an_answer_without_a_reward_ends_the_call(stub: Stub, models: dict[str, str], tmp_path: Path) -> None:
    stub.behave = lambda body, nth: "429" if "two roll" in said(body) else "good"
    rows: list[Record] = [Request(p, Source("r", i)) for i, p in enumerate(("roll", "two roll"))]
    with pytest.raises(ModelError) as refused:
        frontier([models["loaded"]], rows, reward=f"llm-score:{stub.url}#j", reference=models["even"], out=tmp_path)
    assert str(refused.value) == (
        "--reward: 1 answers have no reward\n  → run the same command again: only what is missing is asked for"
    )


def test_a_reward_model_reads_as_many_tokens_as_it_is_let(models: dict[str, str], tmp_path: Path) -> None:
    model, loaded = load_reward_model(ModelSettings(path=models["even"], precision="float32"))
    save_policy(model, loaded.tokenizer, tmp_path / "rm")
    how: dict[str, Any] = {"reward": f"reward:{tmp_path / 'rm'}", "reference": models["even"]}
    found = frontier([models["loaded"]], [Request("one two roll", Source("r", 1))], **how)
    assert found.figures["prompts"] == 1
    assert bootstrap_ratio([found.rows[1]["reward"]], [1.0]).value == found.figures["points"][0]["reward"]["value"]
    with pytest.raises(Exception, match="max_length"):
        frontier([models["loaded"]], [Request("one two roll", Source("r", 1))], **how, max_length=2)


def test_settings_and_models_stay() -> None:
    how = FrontierSettings(reward="verifier", reference="m")
    with pytest.raises(TypeError):
        FrontierSettings("verifier", "m")  # type: ignore[misc]  # settings are keywords
    assert ModelCheckpoint("m", 3).name == "m, step 3"
    refuse_changes(how, ModelCheckpoint("m"))
