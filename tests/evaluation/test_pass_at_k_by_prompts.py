"""Samples of problems with the same prompt: intervals and tests count the prompt once, also after rows are read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from support.heard import Heard
from twofold.data.reasoning import Parted
from twofold.errors import DataError
from twofold.evaluation import pass_at_k as module
from twofold.evaluation.pass_at_k import PassAtK, PassAtKSettings, Sampled, compare, measure_counts
from twofold.evaluation.prompting import Prompting
from twofold.records import Source, Task
from twofold.statistics import bootstrap_ratio, clustered_share, share_difference, sign_flips, wilson

PROMPTS = ("x", "y", "x")


def result(*right: int, prompts: tuple[str, ...] = PROMPTS, cut: tuple[int, ...] = (1, 0, 2)) -> PassAtK:
    """Of two samples of each problem so many are right, the others have one wrong answer."""
    rows = tuple(Sampled(f"t:{n}", k, (2 - k,) if k < 2 else (), 0) for n, k in enumerate(right, 1))
    return PassAtK({"strict": rows}, 2, sum(cut), cut=cut, prompts=prompts)


def test_a_mean_is_over_prompts() -> None:
    """pass@1 of 2, 1 and 0 right of two: 1, ½ and 0; x has 1 of two problems, y ½ of one."""
    found = result(2, 1, 0).estimate("pass", "strict", 1)
    assert found == bootstrap_ratio([1.0, 0.5, 0.0], [1.0] * 3, clusters=PROMPTS)
    assert (found.value, found.n, found.clusters) == (0.5, 3, 2)


@pytest.mark.parametrize(("right", "count"), [(2, [2, 1]), (0, [0, 0])])
def test_where_all_or_none_are_solved_the_interval_is_wilsons(right: int, count: list[int]) -> None:
    assert result(right, right, right).estimate("pass", "strict", 1) == clustered_share(count, [2, 1])
    apart = result(right, right, right, prompts=("x", "y", "z")).estimate("maj", "strict", 2)
    assert apart == wilson(3 * right // 2, 3)


def test_a_difference_is_a_share_over_prompts() -> None:
    """b − a: 0 + 1 of the two problems of x, −½ of y."""
    a, b = result(2, 1, 0), result(2, 0, 2)
    found = compare(a, b, "pass", "strict", 1)
    moved = share_difference(bootstrap_ratio([0.0, -0.5, 1.0], [1.0] * 3, clusters=PROMPTS))
    assert found.difference == replace(moved, method=f"paired {moved.method}")
    assert found.difference.value == pytest.approx(1 / 6)
    assert found.test == sign_flips([1.0, 0.5], [2.0, 0.0])


def test_where_all_problems_differ_alike_the_difference_has_a_width() -> None:
    plain = bootstrap_ratio([0.5] * 3, [1.0] * 3, clusters=PROMPTS)
    moved = compare(result(1, 1, 1), result(2, 2, 2), "pass", "strict", 1).difference
    assert moved == replace(share_difference(plain), method=f"paired {share_difference(plain).method}")
    assert plain.low == plain.high == moved.value == 0.5 > moved.low


def test_rows_are_read_again_with_prompts_and_cut_samples() -> None:
    made = result(2, 1, 0)
    rows = made.rows()
    assert rows[2] == {
        "name": "t:3", "strict": {"right": 0, "wrong": [2], "silent": 0}, "truncated": 2, "prompt": "x",
    }  # fmt: skip
    again = PassAtK.of(rows)
    assert (again, again.cut, again.prompts, again.samples, again.truncated) == (made, (1, 0, 2), PROMPTS, 2, 3)
    assert again.rows() == rows
    named = PassAtK.of([{key: value for key, value in row.items() if key != "prompt"} for row in rows])
    assert named.prompts == ("t:1", "t:2", "t:3")


def test_results_are_equal_by_their_counts() -> None:
    """What else is known of single problems is not compared, and not shown."""
    made, other = result(2, 1, 0), result(2, 1, 0, prompts=(), cut=(3, 0, 0))
    assert made == other
    assert repr(made) == repr(other)
    assert made != replace(other, truncated=4)
    assert (PassAtK({}, 1, 0).cut, PassAtK({}, 1, 0).prompts) == ((), ())


def test_other_problems_have_no_place() -> None:
    with pytest.raises(DataError) as refused:
        compare(result(2, 1, 0), PassAtK({"strict": ()}, 2, 0), "pass", "strict", 1)
    assert (refused.value.where, refused.value.remedy) == ("", "sample both on the same file")


class Part:
    """Notes how rows are asked for; measures all."""

    def __init__(self) -> None:
        self.calls = list[Any]()

    def weights(self, model: Any) -> str:
        return f"weights of {model.name}"

    def rows(self, name: Any, items: Any, size: int, work: Any, bar: Any) -> list[Any]:
        self.calls.append((name, list(items), size, bar))
        return work(items)


@pytest.mark.parametrize(("how", "size"), [({"samples": 3}, 85), ({"ks": (2,)}, 128), ({"samples": 300}, 1)])
def test_samples_are_recorded_by_model_and_weights(
    how: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many problems at a time as have 256 samples; drawn under the seed, at the temperature of the settings."""
    heard, drawn, part = Heard(), list[Any](), Part()
    tasks = [Task("p", "#### 1", Source("t", 1)), Task("q", "#### 2", Source("t", 2))]

    def sample(prompts: Any, **kind: Any) -> Any:
        drawn.append((list(prompts), kind))
        return [[SimpleNamespace(tokens="1", truncated=n == 0)] * kind["samples"] for n, _ in enumerate(prompts)]

    encoder = SimpleNamespace(prompt=lambda prompt: prompt, parted=lambda prompt, tokens: Parted("so 1"))
    model: Any = SimpleNamespace(name="m", encoder=encoder)

    def each(models: Any, problems: Any, settings: Any, temperature: float, work: Any) -> dict[str, Any]:
        drawn.append(temperature)
        return {"m": work("m", SimpleNamespace(sample=sample), model, Prompting())}

    monkeypatch.setattr(module, "each_model", each)
    settings = PassAtKSettings(seed=5, temperature=0.5, progress=heard, **how)
    line = measure_counts(["m"], tasks, settings, part, module.by_number)["m"]  # type: ignore[arg-type]
    samples = settings.samples or 2
    assert line.weights == "weights of m"
    assert part.calls == [(("m", "weights of m"), tasks, size, ("pass@k", heard))]
    assert drawn == [0.5, (["p", "q"], {"samples": samples, "seed": (5, 0)})]
    assert [(row["flexible"]["right"], row["truncated"]) for row in line.rows] == [(samples, samples), (0, 0)]
