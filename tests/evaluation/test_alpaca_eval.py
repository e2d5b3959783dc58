"""`alpaca-eval` from answers in files: verdicts of a server, figures as of the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.benchmark_judges import probabilities, written
from support.heard import Heard
from support.judge_replies import QUICK
from support.openai_stub import Stub
from twofold.errors import DataError
from twofold.evaluation import length_control
from twofold.evaluation.alpaca_eval import alpaca_eval
from twofold.evaluation.published_rows import load

RECORDED = json.loads((Path(__file__).parents[1] / "parity" / "alpaca_eval.json").read_text(encoding="utf-8"))


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "A")
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(length_control, "_has_liblinear", lambda: False)


def scene(case: dict[str, Any], folder: Path, most: int | None = None) -> tuple[str, str, dict[str, float | None]]:
    """The data, a file of answers of the recorded lengths, and the recorded preferences; of the first `most`."""
    case = {name: case[name][:most] for name in ("lengths", "others", "preferences")}
    n = len(case["lengths"])
    prompts = [f"question {i}" for i in range(n)]
    data = folder / "alpaca_eval.json"
    data.write_text(
        json.dumps([
            {"instruction": p, "output": "b" * length, "generator": "base", "dataset": ("koala", "vicuna")[i % 2]}
            for i, (p, length) in enumerate(zip(prompts, case["others"], strict=True))
        ]),
        encoding="utf-8",
    )  # fmt: skip
    answers = written(
        folder / "answers.jsonl",
        [{"prompt": p, "completion": "m" * k} for p, k in zip(prompts, case["lengths"], strict=True)],
    )
    shares = [None if p is None else p - 1 for p in case["preferences"]]
    return str(data), answers, dict(zip(prompts, shares, strict=True))


@pytest.mark.parametrize("case", RECORDED["cases"])
def test_figures_are_those_of_the_package(stub: Stub, tmp_path: Path, case: dict[str, Any]) -> None:
    data, answers, of = scene(case, tmp_path)
    (tmp_path / "df_gamed.csv").write_text(case["df_gamed.csv"], encoding="utf-8")
    stub.logprobs = probabilities(of, lambda text: text.startswith("m"))
    heard = Heard()
    found = alpaca_eval([answers], data, judge=f"llm-prob:{stub.url}#j", out=tmp_path / "out", retry=QUICK,
                        progress=heard)  # fmt: skip
    (model,) = found.figures["models"]
    package, exact = case["package"], case["converged"]
    assert model["win_rate"]["value"] == pytest.approx(package["win_rate"] / 100, abs=1e-9)
    assert model["standard_error"] == pytest.approx(package["standard_error"] / 100, abs=1e-9)
    assert model["discrete_win_rate"] == pytest.approx(package["discrete_win_rate"] / 100, abs=1e-9)
    assert model["lc_win_rate"]["value"] == pytest.approx(exact["length_controlled_winrate"] / 100, abs=1e-9)
    assert model["length_control"]["standard_error"] == pytest.approx(exact["lc_standard_error"] / 100, abs=1e-9)
    counts = [int(package[f"n_{name}"]) for name in ("wins", "draws", "wins_base", "total")]
    assert [model["wins"], model["ties"], model["losses"], model["win_rate"]["n"]] == counts
    missing = sum(share is None for share in of.values())
    assert (model["missing"], model["truncated"]) == (missing, 0)
    assert [subset["win_rate"]["n"] for subset in model["subsets"].values()] == [
        sum(share is not None for share in list(of.values())[i::2]) for i in range(2)
    ]
    figures = found.figures
    assert (figures["benchmark"], figures["max_new_tokens"]) == ("alpaca-eval", 2048)
    assert figures["judge"]["kind"] == "llm-prob"
    assert figures["against"].endswith("/alpaca_eval.json")
    assert "pretraining" in figures["note"]
    assert [row["index"] for row in found.rows] == list(range(len(of)))
    assert heard.warnings == ([f"{missing} contests without a verdict are left out of n"] if missing else [])


def test_two_players_have_paired_tests_and_no_fit_without_difficulties(stub: Stub, tmp_path: Path) -> None:
    data, answers, of = scene(RECORDED["cases"][0], tmp_path, 12)
    other = written(tmp_path / "other.jsonl", [{"prompt": p, "completion": "n"} for p in of])
    stub.logprobs = probabilities(dict.fromkeys(of, 1.0), lambda text: not text.startswith("b"))
    heard = Heard()
    how: dict[str, Any] = {"judge": f"llm-prob:{stub.url}#j", "out": tmp_path / "out", "progress": heard}
    found = alpaca_eval([answers, other], data, **how)
    assert [model["win_rate"]["value"] for model in found.figures["models"]] == [1.0, 1.0]
    (test,) = found.figures["comparisons"]
    assert (test["metric"], test["difference"]["value"], test["p_value"], test["n"]) == ("win_rate", 0, 1, 12)
    assert "no length-controlled win rate" in heard.warnings[0]
    against = alpaca_eval([answers], data, **how, against=other).figures
    assert against["against"].endswith("/other.jsonl")
    assert against["models"][0]["other_length"] == 1


def test_a_rate_beyond_what_was_seen_is_reported(stub: Stub, tmp_path: Path) -> None:
    case = RECORDED["cases"][0]
    data, _, of = scene(case, tmp_path, 12)
    (tmp_path / "df_gamed.csv").write_text(case["df_gamed.csv"], encoding="utf-8")
    short = written(tmp_path / "short.jsonl", [{"prompt": p, "completion": "n"} for p in of])
    stub.logprobs = probabilities(of, lambda text: text == "n")
    heard = Heard()
    alpaca_eval([short], data, judge=f"llm-prob:{stub.url}#j", out=tmp_path / "out", progress=heard)
    (warning,) = heard.warnings
    assert "short.jsonl: answers are almost always longer (or shorter) than the baseline's" in warning


def test_a_hard_verdict_is_a_whole_preference(stub: Stub, tmp_path: Path) -> None:
    data, answers, _ = scene(RECORDED["cases"][0], tmp_path, 12)
    stub.say = lambda body: "Verdict: tie"
    found = alpaca_eval([answers], data, judge=f"llm:{stub.url}#j", out=tmp_path / "out")
    (model,) = found.figures["models"]
    assert (model["win_rate"]["value"], model["ties"], model["standard_error"]) == (0.5, 12, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"output": "b"}, r"rows.jsonl:2: lacks the key `instruction`"),
        ({"instruction": " ", "output": "b"}, r"rows.jsonl:2: `instruction` is empty"),
        ({"instruction": "q", "output": ["b"]}, r"rows.jsonl:2: has a list as `output`, not a text"),
        ({"instruction": "q"}, r"rows.jsonl:2: has no answer to compare with"),
    ],
)
def test_a_row_of_another_kind_is_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    data = written(tmp_path / "rows.jsonl", [{"instruction": "p", "output": "b"}, row])
    answers = written(tmp_path / "a.jsonl", [{"prompt": p, "completion": "m"} for p in "pq"])
    with pytest.raises(DataError, match=message):
        alpaca_eval([answers], data, judge="verifier")


def test_an_index_without_a_difficulty_is_refused(tmp_path: Path) -> None:
    data = written(tmp_path / "rows.jsonl", [{"instruction": f"p {i}", "output": "b"} for i in range(41)])
    (tmp_path / "df_gamed.csv").write_text(RECORDED["cases"][0]["df_gamed.csv"], encoding="utf-8")
    with pytest.raises(DataError, match=r"rows.jsonl:41: df_gamed.csv has no instruction_difficulty of index 40"):
        alpaca_eval(["reference"], data, judge="verifier")
    assert len(load("alpaca-eval", data, 3).records) == 3
