"""`pass_at_k` of models that are known by heart: every figure, every test, every row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.heard import Heard
from support.speakers import speaker
from twofold.errors import DataError, RecipeError
from twofold.evaluation.pass_at_k import PassAtK, PassAtKSettings, Sampled, compare, pass_at_k
from twofold.records import Pair, Source, Task
from twofold.statistics import holm

PROBLEMS = [
    Task(prompt, answer, Source("t", i))
    for i, (prompt, answer) in enumerate([("four", "#### 4"), ("five", "#### 5"), ("la", "#### 1")], 1)
]


def counts(name: str, **by: tuple[int, list[int], int]) -> dict[str, Any]:
    return {"name": name, **{m: dict(zip(("right", "wrong", "silent"), c, strict=True)) for m, c in by.items()}}


def results(told: dict[str, Any], samples: int) -> PassAtK:
    """What came of a model, again, from its line of the table."""
    problems = {
        m: tuple(Sampled(p["name"], p[m]["right"], tuple(p[m]["wrong"]), p[m]["silent"]) for p in told["problems"])
        for m in ("strict", "flexible")
    }
    return PassAtK(problems, samples, told["truncated"])  # type: ignore[arg-type]  # both of its metrics


def test_every_figure_of_two_models(simple: str, wise: str) -> None:
    heard = Heard()
    found = pass_at_k([simple, wise], PROBLEMS, ks=(2, 1), samples=3, max_new_tokens=4, seed=5, progress=heard)
    about = {"max_new_tokens": 4, "samples": 3, "temperature": 1.0, "seed": 5}
    assert {key: found.figures[key] for key in about} == about
    assert found.figures.keys() == {*about, "models", "comparisons"}
    one, two = found.figures["models"]
    none, right = (0, [], 3), (3, [], 0)
    assert [(told["name"], told["truncated"], told["problems"]) for told in (one, two)] == [
        (simple, 3, [counts("t:1", strict=right, flexible=right), counts("t:2", strict=none, flexible=right),
                     counts("t:3", strict=none, flexible=none)]),
        (wise, 0, [counts("t:1", strict=(0, [3], 0), flexible=(0, [3], 0)), counts("t:2", strict=right, flexible=right),
                   counts("t:3", strict=none, flexible=right)]),
    ]  # fmt: skip
    assert found.rows == [{"model": told["name"], **row} for told in (one, two) for row in told["problems"]]
    wanted = [(kind, m, k) for m in ("strict", "flexible") for kind in ("pass", "maj") for k in (2, 1)]
    a, b = results(one, 3), results(two, 3)
    for told, result in ((one, a), (two, b)):
        assert told["figures"] == [
            {"figure": f"{kind}@{k}", "metric": m, **result.estimate(kind, m, k).as_dict()} for kind, m, k in wanted
        ]
    tests = [compare(a, b, *each) for each in wanted]
    assert found.figures["comparisons"] == [
        {"a": simple, "b": wise, "figure": f"{kind}@{k}", "metric": m, **test.as_dict(), "p_holm": p}
        for (kind, m, k), test, p in zip(wanted, tests, holm([t.test.p_value for t in tests]), strict=True)
    ]
    assert heard.of("pass@k")[0] == ("begin", 3)


def test_samples_are_warm_and_by_default_as_many_as_the_largest_k(tmp_path: Path) -> None:
    dice = speaker(tmp_path, {"roll": {str(n): 0.5 + (n - 1) / 1000 for n in (0, 2)}})
    rows = [Task("roll", "#### 2", Source("t", 1))]

    def counted(**how: Any) -> dict[str, Any]:
        found = pass_at_k([dice], rows, **{"ks": (1, 20), **how})
        assert found.figures["comparisons"] == []
        return {**found.figures, **found.rows[0]["flexible"]}

    warm = counted()
    assert (warm["samples"], warm["temperature"], warm["seed"], warm["max_new_tokens"]) == (20, 1.0, 0, 256)
    assert warm["right"] + sum(warm["wrong"]) == 20
    assert 0 < warm["right"] < 20
    assert warm["right"] != counted(seed=1)["right"]
    assert counted(temperature=0.0)["right"] == 20  # the likelier of the two, each time
    assert counted(samples=30)["samples"] == 30
    assert pass_at_k([dice], rows).figures["samples"] == 1


def test_completions_end_where_the_next_example_would_begin(simple: str, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text('{"prompt": "two", "answer": "2"}\n')
    found = pass_at_k([simple], PROBLEMS[1:2], shots=1, examples=str(tmp_path / "e.jsonl"), template="five {prompt}")
    assert found.rows[0]["flexible"] == {"right": 1, "wrong": [], "silent": 0}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"ks": ()}, "--pass-at: k must be ≥ 1\n  → write 1,2,4,8"),
        ({"ks": (2, 0)}, "--pass-at: k must be ≥ 1\n  → write 1,2,4,8"),
        ({"ks": (-1,)}, "--pass-at: k must be ≥ 1\n  → write 1,2,4,8"),
        ({"ks": (1, 4), "samples": 3}, "--samples: pass@4 needs more than 3 samples\n  → draw at least 4"),
        ({"samples": 0}, "--samples: pass@1 needs more than 0 samples\n  → draw at least 1"),
    ],
)  # fmt: skip
def test_a_k_has_samples_enough(how: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as refused:
        PassAtKSettings(**how)
    assert str(refused.value) == said
    assert PassAtKSettings(ks=(4,), samples=4).samples == 4
    with pytest.raises(TypeError):
        PassAtKSettings((1,))  # type: ignore[misc]  # settings are keywords


def test_other_rows_are_refused_before_a_model_is_opened() -> None:
    with pytest.raises(DataError, match="requires problems with answers"):
        pass_at_k(["no such model"], [Pair("a", "b", "c", Source("p", 1))])
