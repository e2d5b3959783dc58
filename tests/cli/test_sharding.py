"""`--shard` of every verb that works on many rows, and the one merge: what comes of it is the command in one piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.openai_stub import Body, Stub
from support.speakers import speaker

Run = Callable[..., Any]
ROWS = 7


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("dice")
    words = "zero one two three four five six"
    return tuple(  # type: ignore[return-value]  # two of them
        speaker(folder / name, {"roll": {"1": p, "2": 1 - p}}, words=words)
        for name, p in (("even", 0.5), ("loaded", 0.9))
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Problems of which some repeat, with pairs, so that each task takes them."""
    names = ["zero", "one", "two", "three", "four", "five", "six"]
    written = ({"prompt": f"{name} roll", "chosen": "1", "rejected": "2", "answer": "#### 1"} for name in names)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in written), encoding="utf-8")
    return path


@pytest.fixture
def problems(tmp_path: Path, rows: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    read = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    path.write_text("".join(json.dumps({"prompt": r["prompt"], "answer": r["answer"]}) + "\n" for r in read), "utf-8")
    return path


def sharded(twofold: Run, command: tuple[object, ...], out: Path, count: int = 2) -> str:
    """What the merge says of so many shards."""
    for index in reversed(range(count)):
        done = twofold(*command, "--out", out, "--shard", f"{index}/{count}")
        assert done.code == 0, done.err
        assert f"shard {index} of {count}" in done.out
    merged = twofold("data", "merge", out)
    assert merged.code == 0, merged.err
    return merged.out


ANSWERS = ("--max-new-tokens", 4, "--metrics", "flexible,strict")
SAMPLED = ("--max-new-tokens", 4, "--samples", 3)


@pytest.mark.parametrize(
    "how",
    [
        ("answers", *ANSWERS),
        ("answers", "--max-new-tokens", 4, "--pass-at", "1,2", "--samples", 4, "--seed", 3),
        ("preference", "--reference", "EVEN"),
        pytest.param(("perplexity",), marks=pytest.mark.slow),  # by the path of preferences
        ("win-rate", "--judge", "verifier:flexible", "--temperatures", "0,1", *SAMPLED),
        ("frontier", "--reward", "verifier:flexible", "--reference", "EVEN", "--best-of", "2,4", *SAMPLED),
    ],
    ids=("answers", "answers@k", "preference", "perplexity", "win-rate", "frontier"),
)
def test_an_evaluation_in_shards_has_the_bytes_of_one(
    how: tuple[Any, ...], twofold: Run, models: tuple[str, str], rows: Path, problems: Path, tmp_path: Path
) -> None:
    task, *more = (models[0] if word == "EVEN" else word for word in how)
    file = rows if task in ("preference", "perplexity") else problems
    command = ("evaluate", *models, "--task", task, "--tasks", file, *more)
    whole, out = tmp_path / "whole", tmp_path / "parts"
    one = twofold(*command, "--out", whole)
    assert one.code == 0, one.err
    assert sharded(twofold, command, out).split("\n", 1)[1] == one.out
    for name in ("results.json", "rows.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    if task == "win-rate":
        assert (out / "comparisons.jsonl").read_bytes() == (whole / "comparisons.jsonl").read_bytes()


def test_a_killed_evaluation_measures_only_what_it_had_not(
    twofold: Run, models: tuple[str, str], problems: Path, tmp_path: Path
) -> None:
    """The ledger of a shard whose rows are gone: it is not drawn again, which its line's being there once shows."""
    command = ("evaluate", models[0], "--tasks", problems, *ANSWERS, "--out", tmp_path / "out", "--shard", "1/2")
    assert twofold(*command).code == 0
    own, ledger = (tmp_path / "out" / f"items-00001-of-00002{end}.jsonl" for end in ("", ".ledger"))
    first, recorded = own.read_bytes(), ledger.read_bytes()
    own.unlink()
    assert twofold(*command).code == 0
    assert (own.read_bytes(), ledger.read_bytes()) == (first, recorded)
    again = twofold(*command)
    assert "shard 1 of 2, finished before" in again.out


def test_scores_in_shards_are_those_of_one_command(twofold: Run, rows: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    command = ("score", rows, "--judge", "verifier:flexible")
    one = twofold(*command, "--out", whole)
    assert one.code == 0, one.err
    assert sharded(twofold, command, out).split("\n", 1)[1] == one.out.replace("whole", "parts")
    assert out.read_bytes() == whole.read_bytes()


def test_drafts_in_shards_are_those_of_one_command(
    twofold: Run, models: tuple[str, str], problems: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    command = ("sample", models[0], "--file", problems, "--samples", 3, "max_new_tokens=4", "seed=2")
    assert twofold(*command, "--out", whole).code == 0
    assert f"{out}: {3 * ROWS} completions" in sharded(twofold, command, out)
    assert out.read_bytes() == whole.read_bytes()
    assert len(whole.read_text("utf-8").splitlines()) == 3 * ROWS


def test_an_array_without_shard_is_warned_of_and_does_all(
    twofold: Run, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ID", "3"), ("MIN", "0"), ("COUNT", "7")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    command = ("score", rows, "--judge", "verifier:flexible", "--out", tmp_path / "scored.jsonl")
    alone = twofold(*command)
    assert alone.code == 0
    assert (
        "warning: this is task 3 of 7 of a SLURM array, and each does all of the work → add --shard auto" in alone.err
    )
    assert f"of {ROWS} rows" in alone.out
    dealt = twofold(*command, "--shard", "auto")
    assert "warning" not in dealt.err
    assert (tmp_path / "scored-00003-of-00007.jsonl").read_text("utf-8").count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shard", "3/3"), "is none of 3 shards"),
        (("--shard", "0/8"), "7 rows cannot be dealt to 8 shards"),
        (("--engine", "rya"), "'rya' is no engine"),
        (("--shards", 2), "--shards: goes with --engine ray"),
        (("--ray-address", "x"), "--ray-address: goes with --engine ray"),
        (("--engine", "ray", "--shard", "0/2"), "--engine ray makes the shards itself"),
    ],
)
def test_odd_shards_are_refused(words: tuple[Any, ...], message: str, twofold: Run, rows: Path, tmp_path: Path) -> None:
    command = ("score", rows, "--judge", "verifier", "--out", tmp_path / "scored.jsonl")
    refused = twofold(*command, *words)
    assert (refused.code, message in refused.err) == (2, True), refused.err


def test_shards_of_an_evaluation_need_a_place_and_no_people(
    twofold: Run, models: tuple[str, str], problems: Path, tmp_path: Path
) -> None:
    bare = twofold("evaluate", models[0], "--tasks", problems, "--shard", "0/2")
    assert (bare.code, "--out: shards need a place" in bare.err) == (2, True)
    command = ("evaluate", models[0], "--task", "win-rate", "--tasks", problems, "--judge", f"human:{tmp_path}/l.jsonl")
    people = twofold(*command, "--out", tmp_path / "out", "--shard", "0/2")
    assert (people.code, "people judge what all shards have drawn" in people.err) == (2, True)


@pytest.fixture
def judge() -> Iterator[Stub]:
    def score(body: Body) -> str:
        return "Score: 7"

    server = Stub(score)
    yield server
    server.close()


def test_a_judge_behind_a_server_is_asked_once_in_each_shard(
    twofold: Run, judge: Stub, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scored.jsonl"
    command = ("score", rows, "--judge", f"llm-score:{judge.url}#m")
    sharded(twofold, command, out, 2)
    assert [json.loads(line)["chosen_score"] for line in out.read_text("utf-8").splitlines()] == [7.0] * ROWS
    assert sorted(path.name for path in tmp_path.glob("*.ledger.jsonl")) == [
        "scored-00000-of-00002.ledger.jsonl", "scored-00001-of-00002.ledger.jsonl",
    ]  # fmt: skip
