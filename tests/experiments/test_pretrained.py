"""The comparison on a pretrained model, played on a tiny one: data, cells, ledger and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from experiments.harness.cells import run
from experiments.harness.files import read_rows
from experiments.harness.recipes import assemble
from experiments.pretrained import ledger, measure
from experiments.pretrained.__main__ import TASKS, main
from experiments.pretrained.cells import Bench, Cell, ReferenceSampler, mean_metrics, players
from experiments.pretrained.figure import draw, lines_of
from experiments.pretrained.harmless import Harmless
from experiments.pretrained.instructions import UNSEEN_PART, Instructions
from experiments.pretrained.methods import ALL, INTERVENTIONS, METHODS, RATE
from experiments.pretrained.protocol import Protocol
from experiments.pretrained.questions import QUESTIONS_OF, SEEN, UNSEEN
from experiments.pretrained.reward_models import RewardModel
from experiments.pretrained.table import by_method
from experiments.pretrained.tasks import PAIRS, rows_of
from experiments.pretrained.tuning import point_of, steps_of, tuned, write_tune
from support.word_chain import letter_chain
from twofold.batch import Group
from twofold.errors import DataError
from twofold.models.policy import Policy
from twofold.progress import Silent
from twofold.rewards.instructions import judge, readable
from twofold.runs.tuning.grid import read_tune_file
from twofold.runs.tuning.plan import make_plan

SMALL = Protocol(
    tokens=1500, batch_size=4, rank=2, max_new_tokens=12, samples=2, best_of=4, shots=1, precision="float32"
)


def prepared(out: Path, limit: int) -> Bench:
    """A prepared task of `limit` questions in each split."""
    bench = Bench(out, Instructions(samples=4, limit=limit), str(letter_chain(out / "base")), SMALL, Silent())
    bench.here.mkdir()
    bench.task.prepare(bench.here, bench.base, Silent())
    return bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return prepared(tmp_path_factory.mktemp("pretrained"), 2)


@pytest.fixture(scope="module")
def wide_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """With as many prompts as a batch of sampled ones and a split of PDPO's need."""
    return prepared(tmp_path_factory.mktemp("wide"), 12)


def test_no_question_is_in_two_splits_and_unseen_kinds_are_only_tested() -> None:
    every = [q for questions in QUESTIONS_OF.values() for q in questions]
    assert len(set(every)) == len(every) == 36 + 12 + 24
    assert not {rule for _, rule in SEEN} & {rule for _, rule in UNSEEN}
    for split, parts in (("train", {"train"}), ("development", {"development"}), ("test", {"test", UNSEEN_PART})):
        assert {row["part"] for row in Instructions().rows(split)} == parts
    assert len(list(Instructions().rows("test"))) == 24 * (6 + 6)
    for row in Instructions().rows("test"):
        readable(row["answer"], "test")


def test_pairs_are_of_training_questions_and_in_the_order_of_the_checker(bench: Bench) -> None:
    rules = {row["prompt"]: row["answer"] for split in ("train", "development") for row in bench.task.rows(split)}  # type: ignore[attr-defined]  # of this task
    pairs, heldout = (read_rows(bench.here / f"{name}.jsonl") for name in ("pairs", "heldout"))
    assert pairs
    assert not {row["prompt"] for row in pairs} & {row["prompt"] for row in heldout}
    for row in (*pairs, *heldout):
        assert judge(row["chosen"], rules[row["prompt"]]).strict
        assert not judge(row["rejected"], rules[row["prompt"]]).strict


def test_a_cell_spends_its_tokens_is_measured_and_is_not_trained_again(bench: Bench) -> None:
    cell = Cell("DPO", METHODS["DPO"].grid[0], 1)
    reply = bench.result(cell)
    assert 1500 <= sum(reply["tokens"].values()) < 1500 + 4 * sum(reply["tokens"].values()) / reply["steps"]
    assert reply["tokens"]["sampled"] == 0 < reply["tokens"]["judged"]
    rows = rows_of(bench.here, "test")
    assert len(reply["values"]) == len(rows) == len(reply["kl"]) == 2 * (6 + 6)
    assert reply["answers"] == 2 * len(rows)
    assert set(reply["values"]) <= {0.0, 0.5, 1.0}
    assert 0 <= reply["accuracy"]["right"] <= reply["accuracy"]["n"]
    assert len(reply["ordered"]) == len({row["prompt"] for row in read_rows(bench.here / "heldout.jsonl")})
    assert sum(reply["ordered"]) > 0
    assert 0 < reply["metrics"]["loss"] < 1
    assert set(reply["logratio"]) <= {"right", "wrong"} != set()
    before = bench.ledger.read_bytes()
    assert bench.result(cell) == reply
    assert bench.ledger.read_bytes() == before


def test_answers_of_half_a_value_or_more_are_right() -> None:
    found = measure.by_verdict([[1.0, 0.0], [0.5, 0.4999]], [[2.0, -1.0], [4.0, -2.0]])
    assert found == {"right": 3.0, "wrong": -1.5}
    assert measure.by_verdict([[0.0]], [[0.25]]) == {"wrong": 0.25}


def test_held_out_pairs_pass_the_base_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log-probabilities are those of every cell; samples pass it in each."""
    passed: list[int] = []
    before = measure._of_reference

    def counted(policy: Policy, groups: Sequence[Group]) -> measure.Logps:
        passed.append(len(groups))
        return before(policy, groups)

    monkeypatch.setattr(measure, "_of_reference", counted)
    fresh, point = replace(bench, heldout=[]), METHODS["DPO"].grid[0]
    first, second = (fresh.result(Cell("DPO", point, seed, "development")) for seed in (21, 22))
    rows = len(rows_of(bench.here, "development"))
    assert passed == [rows, len(fresh.heldout), rows]
    assert first["accuracy"]["n"] == second["accuracy"]["n"] == len(fresh.heldout) > 0


def test_a_gated_form_drafts_for_prompts_without_pairs_and_knows_their_rules(wide_bench: Bench) -> None:
    sections = wide_bench.sections(METHODS["PDPO, gated answer"], {}, 0)
    train, drafted = read_rows(Path(sections["data"]["train"])), read_rows(Path(sections["data"]["generator"]["file"]))
    pairs, truths = (read_rows(wide_bench.here / f"{name}.jsonl") for name in ("pairs", "truths"))
    assert [row["prompt"] for row in drafted] == [row["prompt"] for row in truths[::5]]
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in drafted}
    assert len(train) == sum(row["prompt"] not in {each["prompt"] for each in drafted} for row in pairs) > 0
    assert all(judge(row["completion"], row["answer"]).strict for row in drafted)
    assert sections["algorithm"]["judge"] == {"source": "verifier:instructions"}


def test_the_screening_is_measured_along_training_and_drawn(bench: Bench) -> None:
    """Looks before the end; the same run as one that is not looked at."""
    point = METHODS["DPO"].grid[0]
    reply, other = (bench.result(Cell("DPO", point, 0, split)) for split in ("development", "test"))
    along = reply["along"]
    assert [each["tokens"] for each in along] == sorted({each["tokens"] for each in along})
    assert len(along) in (2, 3), "a step of this small budget may cross two quarters"
    assert all(SMALL.tokens / 4 <= each["tokens"] < SMALL.tokens for each in along)
    assert all(0 <= each["value"] <= 1 and each["accuracy"]["n"] == reply["accuracy"]["n"] for each in along)
    assert "along" not in other
    assert (reply["tokens"], reply["metrics"]) == (other["tokens"], other["metrics"])
    bench.result(Cell("base", {}, 0, "development"))
    cells = by_method(ledger.finished(bench.ledger, SMALL), "instructions", "development")
    (line,) = lines_of(cells).values()
    assert line[0] == (0.5, fmean(cells["base"][0]["values"]))
    assert line[-1] == (reply["accuracy"]["right"] / reply["accuracy"]["n"], fmean(reply["values"]))
    assert len(line) == len(along) + 2
    assert "<svg" in draw(cells, bench.here / "development.svg").read_text()
    with pytest.raises(DataError, match="no method was screened"):
        draw({"base": cells["base"]}, bench.here / "none.svg")


@pytest.mark.slow
def test_sampling_methods_count_what_they_sample(wide_bench: Bench) -> None:
    """PDPO's drafts begin after its warm-up, so that it takes fewer steps than DPO."""
    reply = wide_bench.result(Cell("PPO + entropy", METHODS["PPO + entropy"].grid[0], 1))
    assert reply["tokens"]["sampled"] > 100
    pdpo = wide_bench.result(Cell("PDPO", METHODS["PDPO"].grid[0], 1))
    assert pdpo["tokens"]["sampled"] > 20
    assert pdpo["steps"] <= wide_bench.result(Cell("DPO", METHODS["DPO"].grid[0], 1))["steps"]


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_every_method_runs(wide_bench: Bench, name: str) -> None:
    for point in (ALL[name].grid[0], ALL[name].grid[-1]):
        assert wide_bench.result(Cell(name, point, 2))["steps"] > 0


def test_each_method_has_four_points_that_its_recipe_takes(bench: Bench) -> None:
    for name, method in ALL.items():
        assert len({json.dumps(point) for point in method.grid}) == 4
        recipe = bench.recipe(Cell(name, method.grid[-1], 0))
        assert recipe.optimizer.learning_rate == method.grid[-1][RATE]
        objective: Any = recipe.objective
        if method.setting.startswith("objective.") and method.values:
            assert getattr(objective, method.setting.partition(".")[2]) == method.values[-1]


def test_interventions_change_one_setting_of_pdpo_and_take_its_point(bench: Bench) -> None:
    """The gate's prompts are a file, because the gate needs their rules."""
    pdpo = bench.sections(METHODS["PDPO"], {}, 0)
    changes = {
        "γ 0": {"gamma": 0.0},
        "sign down": {"generator": {"direction": "down"}},
        "anchor": {"generator": {"form": "square"}},
        "reference samples": {},
        "stale samples": {"reuse_steps": 4},
        "gate": {"generator": {"gate": "judge"}, "judge": {"source": "verifier:instructions"}, "samples": 1},
    }
    assert set(INTERVENTIONS) == {f"PDPO, {name}" for name in changes}
    for name, change in changes.items():
        method = INTERVENTIONS[f"PDPO, {name}"]
        sections = bench.sections(method, {}, 0)
        assert sections["algorithm"] == {**pdpo["algorithm"], **change}
        assert (method.drafts == "reference") == (name == "reference samples")
        assert method.tuned_as == "PDPO"
        assert point_of(bench, method.name) == METHODS["PDPO"].grid[0]


def test_drafts_of_the_reference_do_not_follow_the_policy(wide_bench: Bench) -> None:
    """After training the policy samples other words than the base, but without its adapter the same ones."""
    loop, policy, context = assemble(wide_bench.recipe(Cell("PDPO", {RATE: 0.1}, 1)))
    ends = iter((False, False, True))
    with context.resources:
        prompts, sampler = (
            [context.encoder.prompt(q) for q in QUESTIONS_OF["train"][:4]],
            context.sampler(training=True),
        )
        before = [d.tokens.tolist() for row in sampler.sample(prompts) for d in row]
        run(loop, 0, lambda _: {}, enough=lambda: next(ends))
        frozen, own = ReferenceSampler(sampler, policy).sample(prompts), sampler.sample(prompts)
    assert [d.tokens.tolist() for row in frozen for d in row] == before
    assert [d.tokens.tolist() for row in own for d in row] != before


def test_players_answer_without_training(bench: Bench) -> None:
    """The best of four by the checker follows at least as many instructions as one sample. Here the checker is the
    reward, too."""
    names = "base", "base@best-of:4", "base, the best by the judge"
    base, best, judged = (bench.result(Cell(name, {}, 0)) for name in names)
    assert fmean(best["values"]) > fmean(base["values"]) + 0.1
    assert fmean(judged["values"]) > fmean(base["values"])
    assert (best["answers"], judged["answers"], base["answers"]) == (24, 24, 48)
    assert players(SMALL) == ("base", "base@shots:1", "base@best-of:4", "base, the best by the judge", "base@beam:5")


def test_the_best_by_the_judge_has_the_highest_value_of_its_samples(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward chooses nothing here."""
    shown: list[list[list[str]]] = []

    def values(self: object, here: Path, rows: object, texts: list[list[str]]) -> list[list[float]]:
        shown.append(texts)
        return [[float(len(text)) for text in several] for several in texts]

    monkeypatch.setattr(type(bench.task), "values", values)
    reply = bench.result(Cell("base, the best by the judge", {}, 1))
    (drawn,) = shown
    assert [len(several) for several in drawn] == [SMALL.best_of] * 24
    assert reply["values"] == [float(max(map(len, several))) for several in drawn]
    assert reply["words"] == [len(max(several, key=len).split()) for several in drawn]
    assert reply["answers"] == 24


@pytest.mark.slow
def test_examples_and_beams_change_the_answers(bench: Bench) -> None:
    base, shots, beams = (bench.result(Cell(name, {}, 0)) for name in ("base", "base@shots:1", "base@beam:5"))
    assert shots["values"] != base["values"]
    assert beams["answers"] == 24


def test_metrics_are_means_of_the_steps_that_have_them() -> None:
    steps = [{"loss": 0.1}, {"loss": 0.2, "gap": 1.23456}, {"loss": 0.6, "gap": 2.0}]
    assert mean_metrics(steps) == {"loss": 0.3, "gap": 1.617}
    assert mean_metrics([]) == {}


def test_cells_of_another_protocol_or_of_other_data_are_refused(bench: Bench, tmp_path: Path) -> None:
    bench.result(Cell("base", {}, 0))
    with pytest.raises(DataError, match="another protocol: version 2 instead of 3"):
        ledger.finished(bench.ledger, replace(SMALL, version=3))
    path, request = tmp_path / "ledger.jsonl", bench.request(Cell("base", {}, 0))
    for value in (0.25, 0.5):
        ledger.add(path, request, {"values": [value]})
    assert [cell.reply for cell in ledger.finished(path, SMALL)] == [{"values": [0.25]}]
    ledger.add(path, {**request, "data": "others"}, {})
    with pytest.raises(DataError, match="other data of task instructions"):
        ledger.finished(path, SMALL)


def test_tuning_has_the_steps_of_the_budget_and_its_winners_are_used(bench: Bench) -> None:
    wider, grids = read_tune_file(write_tune(bench, ["DPO"], {RATE: 5e-4, "objective.tau": 0.1}))
    assert [point.values[RATE] for point in grids[0].points] == [3e-4, 3e-4, 5e-4, 5e-4, 1e-3, 1e-3]
    settings, grids = read_tune_file(write_tune(bench, ["DPO"]))
    assert (wider.budget.steps, settings.budget.steps) == (6 * steps_of(bench, "DPO"), 4 * steps_of(bench, "DPO"))
    assert settings.evaluate.judge == "verifier:instructions"
    assert [point.values[RATE] for point in grids[0].points] == [3e-4, 3e-4, 1e-3, 1e-3]
    assert steps_of(bench, "KTO") is None
    steps = bench.result(Cell("DPO", METHODS["DPO"].grid[0], 100, "development"))["steps"]
    assert yaml.safe_load((bench.here / "tune" / "dpo" / "dpo.yaml").read_text())["training"]["steps"] == steps
    assert settings.budget.steps == 4 * steps
    assert point_of(bench, "DPO") == METHODS["DPO"].grid[0]
    assert steps_of(bench, "DPO") == steps
    won = {RATE: 1e-3, "objective.beta": 0.2}
    method = {"name": "DPO", "winner": 3, "trials": [{"number": 3, "values": won}]}
    (bench.here / "tune" / "out").mkdir()
    (bench.here / "tune" / "out" / "results.json").write_text(json.dumps({"methods": [method]}))
    assert tuned(bench) == {"DPO": won}
    assert point_of(bench, "DPO") == won


def test_sweeps_of_named_methods_have_folders_and_replace_the_sweep_of_all(bench: Bench, tmp_path: Path) -> None:
    """A method whose points were all out has no winner."""
    assert write_tune(bench, ["DPO", "DPO + NLL"]) == bench.here / "tune" / "dpo+dpo-nll" / "tune.yaml"
    assert write_tune(bench, ["DPO"]) == bench.here / "tune" / "dpo" / "tune.yaml"
    other = replace(bench, out=tmp_path)
    for folder, rates in {"out": (0.1, 0.2), "dpo/out": (0.3, 0.4)}.items():
        trials = [{"number": i, "values": {RATE: rate}} for i, rate in enumerate(rates)]
        methods = [{"name": "DPO", "winner": 1, "trials": trials}, {"name": "IPO", "winner": None, "trials": trials}]
        (other.here / "tune" / folder).mkdir(parents=True)
        (other.here / "tune" / folder / "results.json").write_text(json.dumps({"methods": methods}))
    assert tuned(other) == {"DPO": {RATE: 0.4}}


@pytest.mark.slow
def test_tune_takes_the_files(wide_bench: Bench) -> None:
    """No row that chooses or confirms is trained on, and every trial's recipe is valid."""
    names = ["preferred-FT", "DPO", "PDPO", "SPIN", "GRPO"]
    plan = make_plan(*read_tune_file(write_tune(wide_bench, names)), Silent())
    assert [plan.size(method) for method in plan.methods] == [4] * len(names)
    assert (len(plan.development.records), len(plan.confirm.records)) == (48, 24)


def test_a_point_may_be_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both settings reach the cell, and the tuned point does not."""
    cells: list[Cell] = []
    (bench.here / "facts.json").write_text("{}")
    monkeypatch.setattr("experiments.pretrained.__main__._played", lambda _, cell: cells.append(cell) or "")
    words = ["run", "--out", str(bench.out), "--model", bench.base, "--method", "DPO", "--seed", "4"]
    main([*words, "--point", f"{RATE}=0.5", "--point", "objective.beta=0.25"])
    main(words)
    assert [cell.point for cell in cells] == [{RATE: 0.5, "objective.beta": 0.25}, point_of(bench, "DPO")]
    with pytest.raises(SystemExit):
        main([*words, "--point", RATE])
    assert f"argument --point: '{RATE}' is not KEY=NUMBER" in capsys.readouterr().err


def test_the_command_asks_for_the_data_first(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no data of task instructions\n  → python -m .* prepare --task instructions"):
        main(["run", "--out", str(tmp_path), "--model", bench.base])
    with pytest.raises(SystemExit):
        main(["run", "--method", "nothing", "--model", bench.base])
    with pytest.raises(SystemExit):
        main(["tune", "--method", "base", "--model", bench.base])
    with pytest.raises(SystemExit, match="no data of task instructions"):
        main(["run", "--method", "base", "--out", str(tmp_path), "--model", bench.base])
    assert [*TASKS] == ["instructions", "sentiment", "harmless", "gsm8k"]


@pytest.mark.parametrize(("task", "trained"), [("harmless", ["harmless"]), ("instructions", [])])
def test_prepare_changes_no_rows_and_trains_a_judge_that_is_missing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, trained: list[str]
) -> None:
    """The judge's weights are not in the repository, and the facts about its rows are."""
    folder = tmp_path / task
    folder.mkdir()
    (folder / "facts.json").write_text('{"pairs": 3}\n', encoding="utf-8")
    (folder / PAIRS).touch()
    judges: list[str] = []
    monkeypatch.setattr(RewardModel, "train", lambda model, here, base, progress: judges.append(here.name))
    main(["prepare", "--task", task, "--out", str(tmp_path), "--model", bench.base])
    assert (judges, sorted(path.name for path in folder.iterdir())) == (trained, ["facts.json", PAIRS])


def test_prepare_makes_rows_again_of_which_only_the_facts_are_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harmless").mkdir()
    (tmp_path / "harmless" / "facts.json").write_text("{}\n", encoding="utf-8")
    monkeypatch.setattr(Harmless, "prepare", lambda task, here, base, progress: {"pairs": 5})
    monkeypatch.setattr(RewardModel, "train", lambda model, here, base, progress: None)
    main(["prepare", "--task", "harmless", "--out", str(tmp_path), "--model", str(tmp_path)])
    assert json.loads((tmp_path / "harmless" / "facts.json").read_text(encoding="utf-8")) == {"pairs": 5}
    words = ["--task", "harmless", "--out", str(tmp_path), "--model", str(tmp_path)]
    main(["plan", *words])
    for action in ("run", "room", "tune"):
        with pytest.raises(SystemExit, match=r"no data of task harmless\n  → python -m .* prepare --task harmless"):
            main([action, *words])
