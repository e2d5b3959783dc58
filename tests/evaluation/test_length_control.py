"""The length-controlled win rate compared with the package `alpaca-eval`, and its intervals."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twofold.errors import DataError
from twofold.evaluation import length_control
from twofold.evaluation.length_control import LengthControl, exact_fits, fit
from twofold.evaluation.published_rows import gamed_rows

RECORDED = json.loads((Path(__file__).parents[1] / "parity" / "alpaca_eval.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = RECORDED["cases"]


def control(case: dict[str, Any], folder: Path, **more: Any) -> LengthControl:
    (folder / "df_gamed.csv").write_text(case["df_gamed.csv"], encoding="utf-8")
    gamed = gamed_rows(str(folder / "data.json"))
    assert gamed is not None
    shares = [None if p is None else p - 1 for p in case["preferences"]]
    return LengthControl(shares, case["lengths"], case["others"], range(len(shares)), gamed, **more)


@pytest.mark.parametrize("case", CASES)
def test_the_exact_fit_is_the_package_s_when_its_solver_converges(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's default tolerance leaves it a few 1e-5 away."""
    monkeypatch.setattr(length_control, "_has_liblinear", lambda: False)
    found, package = control(case, tmp_path), case["converged"]
    assert found.solver == "exact"
    assert found.strength == pytest.approx(package["C"])
    assert list(found.weight_K) == pytest.approx(package["weights"], abs=1e-9)
    assert float(found.predicted_N.mean()) == pytest.approx(package["length_controlled_winrate"] / 100, abs=1e-9)
    assert found.about()["standard_error"] == pytest.approx(package["lc_standard_error"] / 100, abs=1e-9)
    assert float(found.predicted_N.mean()) == pytest.approx(
        case["package"]["length_controlled_winrate"] / 100, abs=5e-5
    )


@pytest.mark.parametrize("case", CASES)
def test_with_scikit_learn_the_fit_is_the_package_s(case: dict[str, Any], tmp_path: Path) -> None:
    try:
        version("scikit-learn")
    except PackageNotFoundError:
        pytest.skip("scikit-learn is not installed: pip install 'twofold[alpaca-eval]'")
    found, package = control(case, tmp_path), case["package"]
    assert found.solver == "liblinear"
    assert found.strength == pytest.approx(package["C"])
    assert list(found.weight_K) == pytest.approx(package["weights"], abs=1e-6)
    assert float(found.predicted_N.mean()) == pytest.approx(package["length_controlled_winrate"] / 100, abs=1e-6)
    assert found.about()["standard_error"] == pytest.approx(package["lc_standard_error"] / 100, abs=1e-6)


def test_a_fit_of_counts_is_the_fit_of_repeated_rows() -> None:
    """The subgradient is 0 at the minimum, and a strong penalty leaves no weight."""
    rng = np.random.default_rng(0)
    x, y, count = rng.normal(size=(30, 3)), rng.random(30), rng.integers(0, 3, 30)
    (w,) = exact_fits(x, y, count[None].astype(float), 2.0)
    place = np.repeat(np.arange(30), count)
    assert list(w) == pytest.approx(list(fit(x[place], y[place], np.ones(len(place)), 2.0, "exact")), abs=1e-10)
    slope = 2.0 * (x.T @ (count * (1 / (1 + np.exp(-x @ w)) - y)))
    assert np.all(np.abs(np.where(w == 0, np.clip(slope, -1, 1) - slope, slope + np.sign(w))) < 1e-8)
    assert list(exact_fits(x, y, np.ones((1, 30)), 1e-4)[0]) == [0, 0, 0]


def test_intervals_and_tests_are_over_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_control, "_has_liblinear", lambda: False)
    one = control(CASES[0], tmp_path, resamples=400)
    found = one.estimate()
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(4 * CASES[0]["package"]["standard_error"] / 100, rel=0.35)
    same = one.against(one)
    assert same is not None
    assert (same.difference.value, same.test.p_value) == (0, 1)
    better = [None if s is None else min(1.0, s + 0.3) for s in one.shares]
    other = LengthControl(better, one.lengths, one.others, one.indices, one.gamed, 400)
    moved = one.against(other)
    assert moved is not None
    assert moved.difference.value == pytest.approx(other.estimate().value - found.value)
    assert 0.1 < moved.difference.low < moved.difference.high
    assert moved.test.p_value == pytest.approx(2 / 401)
    assert one.against(LengthControl(better[:5], one.lengths[:5], one.others[:5], range(5), one.gamed, 400)) is None


def test_a_gamed_row_without_a_preference_has_only_a_difficulty(tmp_path: Path) -> None:
    """And a column of texts may have lines of its own."""
    head = "model,index,std_delta_len,preference,instruction_difficulty,text\n"
    rows = 'v,0,0.5,0.25,1.5,"two\nlines"\nv,1,0.5,,-2,x\nc,0,-1,nan,1.5,x\nc,1,-1,0.5,-2,x\n'
    (tmp_path / "df_gamed.csv").write_text(head + rows, encoding="utf-8")
    found = gamed_rows(str(tmp_path / "data.json"))
    assert found is not None
    assert found.difficulty == {0: 1.5, 1: -2}
    assert list(found.share_G) == [0.25, 0.5]
    assert found.feature_GK.tolist() == [[np.tanh(0.5), 1.5, 0], [np.tanh(-1), -2, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("instruction_difficulty", "hardness"), "df_gamed.csv:2: has no number in column"),
        (lambda text: "\n".join([*text.splitlines()[:4], "m,3,0.1,1.7,0.2,False"]), "df_gamed.csv:5: preference 1.7"),
        (lambda text: text.splitlines()[0], "has no rows"),
    ],
)
def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    text = change(CASES[0]["df_gamed.csv"])
    if "1.7" in message:
        assert text.startswith("model,index,std_delta_len,preference,instruction_difficulty")
    (tmp_path / "df_gamed.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        gamed_rows(str(tmp_path / "data.json"))
    assert gamed_rows(str(tmp_path / "elsewhere" / "data.json")) is None


def test_only_instructions_that_were_never_drawn_have_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One instruction drawn once has a rate; none drawn has none."""
    monkeypatch.setattr(length_control, "_has_liblinear", lambda: False)
    one = control(CASES[0], tmp_path)
    many = len(one.shares)
    counts = np.stack([np.eye(many)[0], np.zeros(many), np.ones(many)])
    found = one._refitted(3, lambda a, b: counts[a:b])
    assert np.isfinite(found).tolist() == [True, False, True]
    assert 0 < found[0] < 1
