"""`twofold tune`: a whole search on a tiny model, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from twofold.config.load import load_recipe, validate
from twofold.config.schema import Recipe
from twofold.data.formats import read
from twofold.evaluation.frontier import frontier
from twofold.runs.train import RunOptions, train_recipe

Verb = Callable[..., Any]
TUNE = """\
recipes:
  - {{recipe: recipe.yaml, name: DPO}}
  - {{recipe: recipe.yaml, name: IPO, settings: {{objective: {{kind: ipo}}}}}}
sweep:
  optimizer.learning_rate: [1.0e-4, 1.0e-2]
development: {{file: {folder}/rows.jsonl, limit: 6}}
confirm: {{file: {folder}/rows.jsonl, skip: 6}}
evaluate: {{task: preference, metric: logp}}
rungs: 2
out: {folder}/tune
"""


@pytest.fixture
def files(tmp_path: Path, model_folder: Path) -> Path:
    """A recipe of four steps, rows, and a tune file."""
    rows = [{"prompt": f"{n}+1=", "chosen": f"#### {n + 1}", "rejected": f"### {n}"} for n in range(30)]
    for name, some in ("pairs", rows[:8]), ("rows", rows[8:]):
        text = "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    recipe = f"model: {{path: {model_folder}}}\ndata: {{train: {tmp_path}/pairs.jsonl}}\n"
    recipe += "optimizer: {schedule: linear}\ntraining: {steps: 4, batch_size: 2}\nrun: runs/x\n"
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (tmp_path / "tune.yaml").write_text(TUNE.format(folder=tmp_path), encoding="utf-8")
    return tmp_path


def figures_of(folder: Path) -> dict[str, Any]:
    """The figures of a search without what differs from one to the next."""
    figures = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for method in figures["methods"]:
        del method["spent"]["seconds"]
    return {**figures, "command": ""}


def stamps(folder: Path) -> Mapping[str, int]:
    """When each file of the trials, and of what was confirmed, was written."""
    every = [path for part in ("trials", "confirmed") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in every}


def test_a_search_leaves_figures_a_page_and_a_recipe_and_is_not_run_twice(twofold: Verb, files: Path) -> None:
    one = "recipes=[{recipe: recipe.yaml, name: DPO}]"
    done = twofold("tune", files / "tune.yaml", one)
    assert done.code == 0, done.err
    out = files / "tune"
    figures = figures_of(out)
    assert (figures["budget"], figures["seeds"]) == ({"unit": "steps", "each": 6}, [0])
    (method,) = figures["methods"]
    assert method["spent"]["steps"] == 6  # two trials to step 2, one of them to step 4
    assert sorted(len(trial["rungs"]) for trial in method["trials"]) == [1, 2]
    assert (method["confirmed"]["n"], figures["verdict"]["best"]) == (16, "DPO")
    page = (out / "tune.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'data-zh="在新数据上的确认结果"' in page
    assert "confirmed once on 16 fresh rows" in done.out
    text = (out / "recipes" / "dpo.yaml").read_text(encoding="utf-8")
    assert "# confirmed once on 16 fresh rows: logp " in text

    before = stamps(out)
    assert twofold("tune", files / "tune.yaml", one).code == 0
    assert (figures_of(out), stamps(out)) == (figures, before)

    more = twofold("tune", files / "tune.yaml", one, "sweep.optimizer.learning_rate=[1.0e-3]", "rungs=1")
    assert (more.code, more.err.count("trials in")) == (2, 1)
    assert "they are no longer fresh\n  → confirm on rows that nothing was chosen or confirmed on" in more.err


def test_a_trial_beyond_the_limit_of_kl_is_out(twofold: Verb, files: Path, model_folder: Path) -> None:
    """The KL is that of `frontier` on the same prompts, from the initial model."""
    rows = "".join(f'{{"prompt": "{n}+1=", "answer": "{n + 1}"}}\n' for n in range(10, 16))
    (files / "problems.jsonl").write_text(rows, encoding="utf-8")
    words = [
        f"development={{file: {files}/problems.jsonl, limit: 4}}",
        f"confirm={{file: {files}/problems.jsonl, skip: 4}}",
    ]
    figure = "evaluate={task: answers, max_new_tokens: 4, max_kl: %s}"
    one = ["recipes=[{recipe: recipe.yaml, name: DPO}]", "rungs=1", *words]
    done = twofold("tune", files / "tune.yaml", *one, figure % 1000)
    assert done.code == 0, done.err
    figures, problems = figures_of(files / "tune"), [*read(str(files / "problems.jsonl")).records][:4]
    (kls,) = [{t["number"]: t["rungs"][0]["kl"] for t in m["trials"]} for m in figures["methods"]]
    assert (figures["figure"]["reference"], figures["figure"]["max_kl"]) == (str(model_folder), 1000)
    for run in (files / "tune" / "trials").glob("*/seed-0"):
        (line,) = frontier([str(run)], problems, reward="verifier", reference=str(model_folder),
                           max_new_tokens=4).figures["points"]  # fmt: skip
        number = int(yaml.safe_load((run / "recipe.yaml").read_text())["optimizer"]["learning_rate"] == 1e-2)
        assert kls[number] == pytest.approx(line["kl"]["value"], rel=1e-4)
    assert 0 < kls[0] < kls[1]

    between = twofold("tune", files / "tune.yaml", *one, figure % fmean(kls.values()), f"out={files}/between")
    assert (between.code, f"out: KL {kls[1]:.1f} nats > max_kl" in between.err) == (0, True)
    (method,) = figures_of(files / "between")["methods"]
    assert [(t["rungs"][0]["value"] is None, t["rungs"][0]["kl"]) for t in method["trials"]] == [
        (False, kls[0]), (True, kls[1])
    ]  # fmt: skip
    assert method["winner"] == 0

    none = twofold("tune", files / "tune.yaml", *one, figure % 1e-9, f"out={files}/none")
    assert none.code == 0
    assert "Every trial is out." in none.out
    assert not (files / "none" / "winner.yaml").exists()


@pytest.mark.slow
def test_two_methods_have_the_same_budget_and_a_paired_test(twofold: Verb, files: Path) -> None:
    assert twofold("tune", files / "tune.yaml").code == 0
    figures = figures_of(files / "tune")
    assert [m["spent"]["steps"] for m in figures["methods"]] == [6, 6]
    assert [m["confirmed"]["n"] for m in figures["methods"]] == [16, 16]
    (test,) = figures["comparisons"]
    assert (test["a"], test["b"], test["metric"], test["n"]) == ("DPO", "IPO", "logp", 16)
    assert figures["verdict"]["best"] in ("DPO", "IPO")
    assert {path.name for path in (files / "tune" / "recipes").iterdir()} == {"dpo.yaml", "ipo.yaml"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sweep.objective.btea=[1]"], "override `sweep.objective.btea=[1]`: objective.btea: unknown key"),
        (["sweep.objective.beta=[]"], "sweep: objective.beta: an empty list"),
        (["sweep.objective.beta=1"], "sweep: objective.beta: 1 is no list of values"),
        (["sweep.objective.beta=[a]"], "objective.beta: should be a valid number"),
        (["sweep.optimizer.learning_rate=[1,1]"], "sweep: optimizer.learning_rate: 1 is given twice"),
        (
            ["sweep.objective.beta=[1]", "recipes=[{recipe: recipe.yaml, sweep: {objective: {beta: [2]}}}]"],
            "sweep: objective.beta: every recipe has a sweep of its own for this key",
        ),
        (["sweep.seed=[1]"], "seed: is set for each trial\n  → list the seeds under `seeds`"),
        (["evaluate={task: win-rate}"], "evaluate.judge: is required by task: win-rate"),
        (["evaluate={task: preference, max_kl: 1}"], "evaluate.max_kl: is a setting of tasks that sample"),
        (["evaluate={max_kl: 0}"], "evaluate.max_kl: must be > 0"),
        (["evaluate={reference: x}"], "evaluate.reference: is a setting of metric: reward and of max_kl"),
        (["evaluate={metric: accuracy}"], "evaluate.metric: of answers is one of strict, flexible, math, text"),
        (["budget={steps: 1, tokens: 1}"], "budget: give steps or tokens, not both"),
        (["recipes=[none.yaml]"], "none.yaml: no such recipe"),
        (["recipes=[recipe.yaml, recipe.yaml]"], "two recipes are called recipe"),
        (["confirm.file=none.jsonl"], "none.jsonl: no such file"),
        (["rungs=0"], "rungs: must be in 1 … 20"),
    ],
)
def test_a_mistake_costs_one_message_before_torch_is_needed(
    twofold: Verb, files: Path, settings: list[str], message: str
) -> None:
    answer = twofold("tune", files / "tune.yaml", *settings)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.startswith("error: ")
    assert len(answer.err.splitlines()) <= 2
    assert not (files / "tune").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["sweep.objective.beta=[-1]", "recipes=[recipe.yaml]"], "objective.beta: must be > 0"),
        (["confirm.skip=4"], "2 of 18 rows have a prompt of the development rows"),
        (["confirm.skip=100"], "has 22 rows, and confirm.skip leaves out 100"),
        (["development.file={folder}/pairs.jsonl"], "DPO trains on 6 of 6 development rows"),
        (["settings.data={train: {folder}/rows.jsonl}"], "DPO trains on"),
        (["settings.data.heldout.file={folder}/rows.jsonl"], "data.heldout of DPO has 16 of 16 confirm rows"),
        (["settings.objective.kind=bradley_terry", "recipes=[recipe.yaml]"], "BradleyTerry trains a reward model"),
        (["evaluate={task: answers}"], "--task answers requires problems with answers"),
        (["evaluate={task: win-rate, judge: verifyer}"], "no judge is called 'verifyer'"),
        (["budget.steps=3"], "one trial of DPO takes 4 steps: more than the budget"),
    ],
)
def test_rows_on_two_sides_and_refused_values_cost_one_message_before_a_trial(
    twofold: Verb, files: Path, settings: list[str], message: str
) -> None:
    answer = twofold("tune", files / "tune.yaml", *(word.replace("{folder}", str(files)) for word in settings))
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not list((files / "tune" / "trials").glob("*"))


def test_a_dry_run_lists_trials_with_their_cost_and_runs_none(twofold: Verb, files: Path) -> None:
    answer = twofold("tune", files / "tune.yaml", "--dry-run", "recipes=[recipe.yaml]")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert sorted(lines[:2]) == ["recipe: learning_rate 0.0001", "recipe: learning_rate 0.01"]
    assert "2 to 2, 1 to 4" in answer.out
    assert not (files / "tune").exists()


def test_a_signal_ends_a_dry_run_at_once(twofold: Verb, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr("twofold.runs.tuning.probe.train_recipe", interrupted)
    answer = twofold("tune", files / "tune.yaml", "--dry-run", "recipes=[recipe.yaml]")
    assert (answer.code, answer.out) == (143, "")
    assert answer.err.splitlines()[-1] == "stopped"


@pytest.mark.slow
def test_the_run_of_a_winner_has_the_bytes_of_its_recipe(twofold: Verb, files: Path) -> None:
    out = files / "tune"
    assert twofold("tune", files / "tune.yaml", "recipes=[recipe.yaml]").code == 0
    recipe = validate(Recipe, load_recipe(out / "winner.yaml", [f"run={files / 'alone'}"]))
    train_recipe(recipe, RunOptions())
    (run,) = [path.parent for path in (out / "trials").glob("recipe-*/seed-0/model")]
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (run / name).read_bytes() == (files / "alone" / name).read_bytes()


def command(files: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "twofold", "tune", str(files / "tune.yaml"), *words]


def begun(files: Path) -> tuple[list[str], subprocess.Popen[str]]:
    """A search of two workers whose trials have begun, and its command."""
    words = command(files, "seeds=[0, 1]", f"out={files}/two", "--workers=2")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 120
    while not list((files / "two").glob("trials/*/seed-0/*")) and time.monotonic() < until:
        time.sleep(0.1)
    return words, process


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_all_workers_and_the_search_resumes(files: Path) -> None:
    words, process = begun(files)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "failed" not in errors
    subprocess.run(words, check=True, capture_output=True)
    assert figures_of(files / "two")["methods"]


@pytest.mark.slow
def test_a_killed_worker_is_a_warning_and_its_trials_are_run(files: Path) -> None:
    _, process = begun(files)
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "1 worker failed, and its trials were run here → read worker-*.log" in errors
    assert figures_of(files / "two")["methods"]


@pytest.mark.slow
def test_workers_and_a_killed_search_come_to_the_same_figures(files: Path) -> None:
    seeds = "seeds=[0, 1]"
    subprocess.run(command(files, seeds), check=True, capture_output=True)
    whole = figures_of(files / "tune")
    subprocess.run(command(files, seeds, f"out={files}/two", "--workers=2"), check=True, capture_output=True)
    assert figures_of(files / "two") == whole
    kills = 0
    for pause in (6, 8, 10, 12, 60):
        process = subprocess.Popen(command(files, seeds, f"out={files}/killed"), stderr=subprocess.DEVNULL)
        time.sleep(pause)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command(files, seeds, f"out={files}/killed"), check=True, capture_output=True)
    assert kills > 0
    assert figures_of(files / "killed") == whole
