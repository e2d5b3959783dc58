"""Of the settings of several runs a page shows those that differ, and no others."""

from __future__ import annotations

from support.made_up_runs import Make, run_data
from twofold.reports.provenance import machine, methods, settings_diff
from twofold.reports.run import RunData, read_run


def setup(make_run: Make, name: str, text: str) -> RunData:
    run = make_run(name)
    (run / "resolved.yaml").write_text(text)
    return read_run(run)


def test_only_what_differs(make_run: Make) -> None:
    a = setup(
        make_run,
        "a",
        "objective: {kind: dpo, beta: 0.1}\nseed: 1\nrun: a\ntraining: {betas: [1, 2], epochs: 2}\n",
    )
    b = setup(
        make_run,
        "b",
        "objective: {kind: dpo, beta: 0.3}\nseed: 1\nrun: b\ntraining: {betas: [1, 3], epochs: 2}\n",
    )
    assert settings_diff([a, b]) == [("objective.beta", ("0.1", "0.3")), ("training.betas", ("[1, 2]", "[1, 3]"))]
    assert settings_diff([a]) == []


def test_a_section_that_one_run_lacks(make_run: Make) -> None:
    a = setup(make_run, "a", "data: {generator: null, train: x}\n")
    b = setup(make_run, "b", "data: {generator: {file: g.jsonl}, train: x}\n")
    assert settings_diff([a, b]) == [("data.generator.file", ("–", "g.jsonl"))]


def test_lists_and_machines_are_shown_in_their_own_letters() -> None:
    a, b = (run_data(settings={"data": [f"é{name}"]}, environment={"cpu": {"name": "µ"}}) for name in "ab")
    assert settings_diff([a, b]) == [("data", ('["éa"]', '["éb"]'))]
    assert machine(a) == [("cpu", '{"name": "µ"}')]


def test_runs_of_one_method_differ_in_seed_and_folder_only() -> None:
    """In whatever order their settings are written."""
    one = run_data(settings={"objective": {"kind": "dpo", "beta": 0.1}, "seed": 0, "run": "a"})
    same = run_data(settings={"run": "b", "seed": 1, "objective": {"beta": 0.1, "kind": "dpo"}})
    other = run_data(settings={"objective": {"kind": "dpo", "beta": 0.2}, "seed": 0, "run": "c"})
    assert methods([one, other, same]) == [0, 1, 0]
    assert methods([run_data(settings={}), run_data(settings={})]) == [0, 1], "unknown settings are nobody's method"
