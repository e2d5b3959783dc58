"""`twofold evaluate --task judge`, panels of `--judge`, `--judge-pairs`, prices and limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.judge_replies import longer
from support.openai_stub import Stub

Run = Callable[..., Any]


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: longer(body) if body["model"] == "long" else "Verdict: A")
    yield server
    server.close()


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """The longer answer is right on six of eight."""
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"p{n}", "chosen": "longer" if n < 6 else "x", "rejected": "short"} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_judges_their_cost_and_their_shards(twofold: Run, stub: Stub, pairs: Path, tmp_path: Path) -> None:
    names = [f"llm:{stub.url}#long", f"llm:{stub.url}#place"]
    words = ("evaluate", *names, "--task", "judge", "--tasks", pairs)
    limited = twofold(*words, "--out", tmp_path / "out", "--price", "long=100000,50000", "--price", "place=0,0",
                      "--max-spend", 2)  # fmt: skip
    assert limited.code == 2, limited.err
    assert "of max_spend $2 are spent" in " ".join(limited.err.split())
    done = len(stub.requests)
    assert 0 < done < 16
    whole = twofold(*words, "--out", tmp_path / "out", "--price", "long=100000,50000")
    assert whole.code == 0, whole.err
    assert len(stub.requests) == 32
    assert f"{16 - done} requests to send" in " ".join(whole.err.split())
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(j["accuracy"]["count"], j["ties"]) for j in told["judges"]] == [(6, 0), (0, 8), (6, 0)]
    assert told["spend"][0]["dollars"] == pytest.approx(6.4)
    assert "dollars" not in told["spend"][1]
    shown = " ".join(whole.out.split())
    for text in ("75.0%", "100.0%", "majority", "panel of 2: Fleiss' κ", "16 replies, 48 prompt", "$6.4"):
        assert text in shown, text
    assert "--price long=100000,50000" in told["command"]
    for shard in ("0/2", "1/2"):
        part = twofold(*words, "--out", tmp_path / "parts", "--shard", shard)
        assert part.code == 0, part.err
    assert twofold("data", "merge", tmp_path / "parts").code == 0
    merged = json.loads((tmp_path / "parts" / "results.json").read_text())
    assert merged["judges"] == told["judges"]
    assert [s["requests"] for s in merged["spend"]] == [16, 16]


def test_a_judges_accuracy_is_beside_its_figures(
    twofold: Run, stub: Stub, pairs: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ("evaluate", model_folder, "--task", "win-rate", "--tasks", pairs, "--limit", 2, "--max-new-tokens", 3,
             "--temperatures", 0, "--judge", f"llm:{stub.url}#long", "--canary", "")  # fmt: skip
    plain = twofold(*words, "--out", tmp_path / "out")
    assert plain.code == 0, plain.err
    assert "judge: its own accuracy is not measured (--judge-pairs FILE)" in plain.out
    beside = twofold(*words, "--judge", f"llm:{stub.url}#place", "--judge-pairs", pairs, "--out", tmp_path / "out")
    assert beside.code == 0, beside.err
    shown = " ".join(beside.out.split())
    assert "judge: right on 75.0% [" in shown
    assert "] of 8 labeled pairs" in shown
    assert shown.count("panel of 2: Fleiss' κ") == 2
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    assert told["command"].count("--judge ") == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no-judge", "--task", "judge"), "no judge is called 'no-judge'"),
        (("verifier", "--task", "judge", "--judge", "verifier"), "--judge: means nothing to --task judge"),
        (("verifier", "--task", "judge", "--price", "m=1"), "'m=1' is no price"),
        (("verifier", "--task", "judge", "--max-spend", "0"), "max_spend must be > 0"),
        (("llm:http://127.0.0.1:9/v1#m", "--task", "judge"), "add --out FOLDER"),
        (("verifier", "--task", "judge"), "has no answer to compare with"),
    ],
)
def test_mistakes_are_short(twofold: Run, pairs: Path, words: tuple[str, ...], told: str) -> None:
    answer = twofold("evaluate", *words, "--tasks", pairs)
    assert answer.code == 2
    assert told in " ".join(answer.err.split())
