"""Every check finds what it looks for, lets a sound run pass, and says nothing of what it cannot see."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.made_up_runs import Make, lines, sample
from twofold.reports.checks import CHECKS, circles
from twofold.reports.findings import review
from twofold.reports.run import read_run
from twofold.statistics import wilson

LOOK = {check.name: check.look for check in CHECKS}
Sound = Callable[..., Path]


@pytest.fixture
def sound(make_run: Make) -> Sound:
    """A run on which nothing is wrong: 1,000 problems, 1,000 held-out pairs, drafts, a learning rate; with `metrics`
    besides on every line of training, `settings` over the recipe's, `evaluations` instead of its own."""

    def make(
        name: str = "sound",
        *,
        settings: Mapping[str, Any] | None = None,
        evaluations: list[dict[str, Any]] | None = None,
        **metrics: float,
    ) -> Path:
        folder = make_run(name, solved=(500, 900), problems=1000, extra={"truncated": 0.0, "drafts": 8.0, **metrics})
        recipe = yaml.safe_load((folder / "resolved.yaml").read_text())
        recipe |= {"optimizer": {"learning_rate": 1e-6}, **(settings or {})}
        (folder / "resolved.yaml").write_text(yaml.safe_dump(recipe))
        if evaluations is not None:
            with (folder / "metrics.jsonl").open() as file:
                train = [row for line in file if (row := json.loads(line))["kind"] == "train"]
            lines(folder / "metrics.jsonl", [*train, *({"kind": "evaluation", **e} for e in evaluations)])
        return folder

    return make


def words(folder: Path) -> list[str]:
    run = read_run(folder)
    return [worry.text for worry in review([run], [run.name]).worries]


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def tokens(folder: Path, **counts: Any) -> None:
    change(folder / "environment.json", tokens={"train": {"rows": 95, "used": 43, "dropped": [], **counts}})


def test_a_sound_run_is_told_what_was_looked_at(sound: Sound) -> None:
    run = read_run(sound())
    assert review([run], ["sound"]).words == (
        "Nothing to worry about in what was checked: final results, rows left out or cut, size of what was measured "
        "on, falls on the way, log-probability of chosen, completions cut off, shut gates, repetition, pairs too easy, "
        "learning rate, overlap with training."
    )
    assert review([run], ["sound"]).worries == ()


def test_a_run_that_does_not_tell_of_its_rows_is_not_known_to_be_sound(sound: Sound) -> None:
    folder = sound()
    change(folder / "environment.json", tokens={})
    run = read_run(folder)
    assert review([run], [""]).words.startswith("No warning, but rows left out or cut could not be checked. Checked: ")
    assert review([read_run(sound("other")), run], ["a", "b"]).unseen == ("rows left out or cut",)


def test_rows_left_out_and_cut_are_counted_by_reason(sound: Sound) -> None:
    folder = sound(settings={"data": {"tokenize": {"max_length": 64}}})
    tokens(folder, dropped=[f"pairs.jsonl:{i}" for i in range(52)], cut_prompt=3, stop_cut=2)
    limit = "longer than 64 tokens (data.tokenize.max_length)"
    assert words(folder) == [
        f"52 of 95 train rows (54.7%) were left out: {limit}",
        f"3 of 95 train rows (3.2%) lost the beginning of their prompt: {limit}",
        f"2 completions of 95 train rows were cut and do not end: {limit}",
    ]


@pytest.mark.parametrize(("right", "n", "half"), [(3, 4, 33), (80, 100, 8), (200, 400, None), (5, 5, 22)])
def test_few_held_out_pairs_place_little(sound: Sound, right: int, n: int, half: int | None) -> None:
    folder = sound()
    change(folder / "results.json", heldout={"accuracy": wilson(right, n).as_dict()})
    told = [f"{n} held-out pairs place an accuracy only within ±{half} points"] if half else []
    assert words(folder) == told


def accuracies(*values: float, n: int = 1000, key: str = "heldout/accuracy") -> list[dict[str, Any]]:
    return [{"step": 10 * i, key: v, f"{key.partition('/')[0]}/n": n} for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "n", "ending"),
    [
        ((0.9167, 0.875), 24, "peaked at step 0 (91.7%) and ended at 87.5% of 24 pairs: chance may explain it; "
                              "training.best_metric=heldout/accuracy would keep the best step"),
        ((0.5, 0.92, 0.35), 500, "peaked at step 10 (92.0%) and ended at 35.0%: an earlier checkpoint is better"),
        ((0.5, 0.80, 0.79), 1000, ""), ((0.8, 0.9), 1000, ""), ((0.9,), 1000, ""),
    ],
)  # fmt: skip
def test_a_fall_of_the_held_out_accuracy(sound: Sound, values: tuple[float, ...], n: int, ending: str) -> None:
    assert words(sound(evaluations=accuracies(*values, n=n))) == ([f"held-out accuracy {ending}"] if ending else [])


def test_a_rising_loss_on_held_out_rows(sound: Sound) -> None:
    def losses(*values: float) -> list[dict[str, Any]]:
        return [{"step": 10 * i, "heldout/loss": v, "heldout/accuracy": 0.8} for i, v in enumerate(values)]

    assert words(sound("up", evaluations=losses(0.69, 0.5, 0.6))) == [
        "the loss on held-out rows rose from 0.500 (step 10) to 0.600: the run was too long"
    ]
    assert words(sound("down", evaluations=losses(0.69, 0.5, 0.52))) == []


@pytest.mark.parametrize(("steps", "drops"), [(3, True), (40, False)])
def test_drafts_that_were_all_cut(make_run: Make, steps: int, drops: bool) -> None:
    """However short the run; and only where such drafts are dropped did they teach nothing."""
    folder = make_run("cut", steps=steps, problems=1000, solved=(500, 900), extra={"truncated": 1.0, "drafts": 4.0})
    (folder / "resolved.yaml").write_text(yaml.safe_dump({"algorithm": {"kind": "pdpo", "drop_truncated": drops}}))
    nothing = " and taught nothing" if drops else ""
    assert words(folder) == [f"100.0% of the last samples hit the length limit{nothing}: raise sampling.max_new_tokens"]


@pytest.mark.parametrize("key", ["heldout/truncated", "exact_match/truncated"])
def test_evaluations_that_were_cut_without_their_texts(sound: Sound, key: str) -> None:
    folder = sound(evaluations=[{"step": s, key: 0.5} for s in (0, 40)])
    (folder / "samples.jsonl").unlink()
    assert words(folder) == [
        f"50.0% of the evaluated completions ({key.partition('/')[0]}) were cut at the length limit"
    ]


GATED = {"algorithm": {"kind": "pdpo", "generator": {"gate": "verifier"}}}
SHUT = "the gate never opened: no sample of any step was {}, so the generator taught nothing"
DOWN = {"algorithm": {"kind": "pdpo", "generator": {"gate": "verifier", "direction": "down"}}}


@pytest.mark.parametrize(
    ("settings", "metrics", "told"),
    [
        (GATED, {"right": 0.0}, SHUT.format("right")),
        (GATED, {"right": 0.02}, "the gate was nearly shut: 2.0% of the samples were right and could teach"),
        (DOWN, {"right": 1.0}, SHUT.format("wrong")),
        (GATED, {"right": 0.5, "active": 0.2}, ""), (DOWN, {"right": 0.0, "active": 0.2}, ""), ({}, {"right": 0.0}, ""),
        ({}, {"active": 0.0}, "no sample was ever pushed: the gap to the ground truth was never positive (`active` "
                              "is 0)"),
        ({}, {"active": 0.01}, ""),
        ({}, {"zero_variance": 0.95}, "in 95.0% of the prompts all completions were rated alike, from which nothing is "
                                      "learned"),
        ({}, {"zero_variance": 0.5}, ""),
        ({}, {"no_pair": 1.0}, "in 100.0% of the prompts no two samples were ranked, so there was no pair to train "
                               "on"),
    ],
)  # fmt: skip
def test_gates_that_stay_shut(sound: Sound, settings: dict[str, Any], metrics: dict[str, float], told: str) -> None:
    assert words(sound(settings=settings, **metrics)) == ([told] if told else [])


def completions(folder: Path, *texts: str, before: str = "fine") -> None:
    """Problems 0, 1 …: `before` at step 0, then these."""
    rows = [{**sample(0, i, True), "completion": f"{before} {i}"} for i in range(len(texts))]
    lines(folder / "samples.jsonl", rows + [{**sample(40, i, True), "completion": t} for i, t in enumerate(texts)])


def test_completions_that_repeat_themselves_or_say_nothing(sound: Sound) -> None:
    folder, fine = sound(), [f"{i} apples and {i} pears are {2 * i}.\n#### {2 * i}" for i in range(36)]
    completions(folder, *fine, *(["yes. " * 20] * 4))
    assert words(folder) == ["4 of 40 evaluated completions repeat themselves to the end (0 before training)"]
    completions(folder, *fine, "", " ", "\n", before="na na na na na na na na na")
    assert words(folder) == ["3 of 39 evaluated completions are empty (0 before training)"]
    completions(folder, *(["I am sorry."] * 30), *fine[:10])
    assert words(folder) == ["30 of 40 evaluated completions are one and the same text"]
    completions(folder, *fine, "yes. " * 20)
    assert words(folder) == []


@pytest.mark.parametrize(
    ("text", "round"),
    [
        ("the cat sat. " * 6, True), ("ab" * 40, True), ("1 + 1 = 2\n" * 5, True), ("so " * 30 + "s", True),
        ("haha", False), ("#### 1000000", False), ("2 + 2 + 2 + 2 = 8", False), (" " * 80, False), ("", False),
        ("\n".join(f"Step {i}: add {i} to {i}." for i in range(9)), False), ("wait, " * 9 + "no: " + "z" * 90, True),
        ("na " * 30 + "and then they all went home, and nobody ever heard of any of them again", False),
    ],
)  # fmt: skip
def test_circles(text: str, round: bool) -> None:
    assert circles(text) == round


@pytest.mark.parametrize(
    ("model", "rate", "parameters", "told"),
    [
        ({"lora": {"rank": 8}}, 1e-6, 10**9, "low, 1e-06 for an adapter: 1e-05 to 0.001 are usual"),
        ({"lora": {"rank": 8}}, 1e-6, 10**4, "low, 1e-06 for an adapter"), ({"adapter": "x"}, 1e-6, 10**9, "low"),
        ({"lora": {"rank": 8}}, 1e-4, 10**9, ""), ({"lora": {"rank": 8}}, 5e-2, 10**9, "high, 0.05 for an adapter"),
        ({"lora": None}, 1e-6, 10**9, ""), ({}, 2e-4, 10**9, "high, 0.0002 for all weights: 1e-07 to 1e-05 are usual"),
        ({}, 2e-4, 10**6, ""), ({}, 1e-2, 10**6, "high"), ({}, 1e-9, 10**9, "low, 1e-09 for all weights"),
    ],
)  # fmt: skip
def test_rates_that_are_unusual_for_what_is_tuned(
    sound: Sound, model: dict[str, Any], rate: float, parameters: int, told: str
) -> None:
    folder = sound(settings={"optimizer": {"learning_rate": rate}, "model": {"path": "acme/base", **model}})
    change(folder / "environment.json", parameters=parameters)
    assert [w.startswith(f"the learning rate is {told}") for w in words(folder)] == ([True] if told else [])


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        ({"kind": "adafactor", "learning_rate": 2e-4}, 0), ({"kind": "adafactor", "learning_rate": 2e-6}, 0),
        ({"kind": "adafactor", "learning_rate": 1e-6}, 1), ({"kind": "muon", "learning_rate": 2e-4}, 1),
        ({"kind": "sgd", "learning_rate": 0.5}, 0),
    ],
)  # fmt: skip
def test_what_is_usual_depends_on_the_optimizer(sound: Sound, optimizer: dict[str, Any], told: int) -> None:
    """Adafactor's rate is a share of the weights' size, some 30 times AdamW's; no rate of SGD is usual."""
    folder = sound(settings={"optimizer": optimizer, "model": {"path": "acme/base"}})
    change(folder / "environment.json", parameters=10**9)
    assert len(words(folder)) == told


def test_supervised_rates_may_be_higher(sound: Sound) -> None:
    settings = {"optimizer": {"learning_rate": 2e-4}, "objective": {"kind": "sft"}}
    assert words(sound(settings=settings)) == []


def test_nothing_measured_and_nothing_finished_are_two_things(sound: Sound) -> None:
    folder = sound(evaluations=[])
    change(folder / "results.json", models=[], comparisons=[], heldout={}, step=40)
    (folder / "samples.jsonl").unlink()
    unseen = "nothing was measured on rows that training has not seen: set data.heldout, or evaluation.tasks"
    assert words(folder) == [unseen]
    (folder / "results.json").unlink()
    assert words(folder) == ["no final results: the run has not finished"]
    rewarded = sound("rewarded", evaluations=[{"step": 40, "heldout/reward": 0.5}])
    change(rewarded / "results.json", models=[], comparisons=[], heldout={}, step=40)
    assert unseen not in words(rewarded)


def table(**digests: str) -> dict[str, Any]:
    return {name.replace("_", " "): {"source": f"{d}.jsonl", "sha256": d} for name, d in digests.items()}


def test_rows_of_a_file_that_was_trained_on(sound: Sound) -> None:
    folder = sound()
    change(folder / "environment.json", data=table(train_1="a", train_2="b", heldout="b", tasks="c"))
    assert words(folder) == ["the heldout rows come from a file that was trained on"]
    change(folder / "environment.json", data=table(train="a", heldout="b", tasks="a"))
    assert words(folder) == ["the tasks rows come from a file that was trained on"]
    change(folder / "environment.json", data=table(train="a", heldout="b", tasks="c"))
    assert words(folder) == []
    change(folder / "environment.json", alike={"heldout": 1, "tasks": 3})
    assert words(folder) == [
        "1 heldout row differs from what was trained on by case, spacing or punctuation only",
        "3 tasks rows differ from what was trained on by case, spacing or punctuation only",
    ]
