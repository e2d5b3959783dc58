"""Shards of a build: together they are the build in one piece; what does not fit together is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twofold.datagen.build import BuildSettings, build, read_for
from twofold.datagen.shards import build_work, built_of, make_shard
from twofold.errors import DataError, RecipeError
from twofold.progress import Silent
from twofold.shards import Outcome, Shard, Work, merge, run

ARRAY = {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "4"}


def tasks(folder: Path, number: int = 7) -> Path:
    path = folder / "tasks.jsonl"
    rows = ({"prompt": f"{n}", "answers": [f"#### {n}", f"#### {n + 1}"], "answer": f"#### {n}"} for n in range(number))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def built(source: Path, out: Path, shard: Shard | None = None, **changes: Any) -> int:
    how = BuildSettings(**changes)
    questions = read_for(how, str(source))
    if shard is None:
        return build(questions, how, out, pytest.fail, Silent()).rows
    assert run(build_work(questions, how), out, shard, make_shard(questions, how, pytest.fail, Silent()))
    return len(shard.path(out).read_text("utf-8").splitlines())


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_together_are_the_build_in_one_piece(count: int, tmp_path: Path) -> None:
    source, whole, out = tasks(tmp_path), tmp_path / "whole.jsonl", tmp_path / "pairs.jsonl"
    rows = built(source, whole)
    assert sum(built(source, out, Shard(i, count)) for i in reversed(range(count))) == rows
    merged = merge(out)
    assert (built_of(merged).rows, merged.items, merged.shards) == (rows, 7, count)
    assert built_of(merged).used == 7
    assert out.read_bytes() == whole.read_bytes()
    assert merge(out) == merged  # again, over the same rows


def test_spans_are_all_prompts_once() -> None:
    for total in range(1, 12):
        for count in range(1, total + 1):
            spans = [Shard(i, count).span(total) for i in range(count)]
            assert [n for first, end in spans for n in range(first, end)] == list(range(total))
            assert max(b - a for a, b in spans) - min(b - a for a, b in spans) <= 1


def test_spans_begin_where_the_work_in_one_piece_begins_anew() -> None:
    for total, grain, count in ((100, 7, 3), (101, 7, 15), (5, 8, 1), (64, 16, 4)):
        spans = [Shard(i, count).span(total, grain) for i in range(count)]
        assert [n for first, end in spans for n in range(first, end)] == list(range(total))
        assert all(first % grain == 0 and first < end for first, end in spans)


def test_a_finished_shard_is_left_alone_until_what_it_read_changes(tmp_path: Path) -> None:
    out, read = tmp_path / "out.jsonl", tmp_path / "weights"
    read.write_text("one", encoding="utf-8")
    done: list[tuple[int, int]] = []

    def make(own: Path, first: int, end: int) -> Outcome:
        done.append((first, end))
        own.write_text("{}\n" * (end - first), encoding="utf-8")
        return Outcome()

    work = Work("build", "rows", 4, "r", inputs=(str(read), None))
    assert [run(work, out, Shard(1, 2), make) for _ in range(2)] == [True, False]
    read.write_text("three", encoding="utf-8")
    assert run(work, out, Shard(1, 2), make)
    Shard(1, 2).path(out).write_text("{}\n", encoding="utf-8")  # changed by somebody
    assert run(work, out, Shard(1, 2), make)
    assert run(replace(work, request="s"), out, Shard(1, 2), make)
    assert done == [(2, 4)] * 4


def test_weights_that_differ_are_refused(tmp_path: Path) -> None:
    def make(own: Path, first: int, end: int) -> Outcome:
        own.write_text("{}\n", encoding="utf-8")
        return Outcome({"n": 2}, {"model": f"weights {first // 3}"})

    out = tmp_path / "out.jsonl"
    for i in range(4):
        run(Work("evaluate", "rows", 4, "r"), out, Shard(i, 4), make)
    with pytest.raises(DataError, match=r"out-00003-of-00004\.jsonl: has answers of model with other weights"):
        merge(out)


def test_a_shard_is_named_by_its_place() -> None:
    assert Shard.of("3/8") == Shard(3, 8)
    assert Shard(3, 8).path(Path("a/pairs.jsonl")) == Path("a/pairs-00003-of-00008.jsonl")
    assert Shard.of("auto", ARRAY) == Shard(2, 4)


@pytest.mark.parametrize("text", ["8/8", "1", "1/0", "-1/4", "a/b", "1/2/3", "", "1/100001"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"is no shard|is none of") as caught:
        Shard.of(text)
    assert "INDEX/COUNT" in (caught.value.remedy or "")


def test_auto_is_for_array_jobs() -> None:
    with pytest.raises(RecipeError, match="for SLURM array jobs"):
        Shard.of("auto", {"PATH": "/bin"})


def test_more_shards_than_prompts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="7 prompts cannot be dealt to 8 shards"):
        built(tasks(tmp_path), tmp_path / "pairs.jsonl", Shard(0, 8))


def all_of(folder: Path, count: int = 3) -> Path:
    source, out = tasks(folder), folder / "pairs.jsonl"
    for i in range(count):
        built(source, out, Shard(i, count))
    return out


def drop(out: Path) -> None:
    Shard(1, 3).path(out).unlink()


def unfinished(out: Path) -> None:
    out.with_name("pairs-00001-of-00003.shard.json").unlink()


def changed(out: Path) -> None:
    with Shard(1, 3).path(out).open("a") as file:
        file.write("{}\n")


def other_settings(out: Path) -> None:
    built(out.with_name("tasks.jsonl"), out, Shard(1, 3), all_pairs=True)


def other_prompts(out: Path) -> None:
    built(tasks(out.parent, 8), out, Shard(1, 3))


def other_count(out: Path) -> None:
    built(out.with_name("tasks.jsonl"), out, Shard(1, 4))


def renamed(out: Path) -> None:
    """A shard under another's name."""
    for end in (".jsonl", ".shard.json"):
        out.with_name(f"pairs-00002-of-00003{end}").rename(out.with_name(f"pairs-00001-of-00003{end}"))
    built(out.with_name("tasks.jsonl"), out, Shard(2, 3))


def occupied(out: Path) -> None:
    out.write_text("mine\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (drop, "lacks 1 of 3 shards: 1"),
        (unfinished, "pairs-00001-of-00003.jsonl: is not finished"),
        (changed, "pairs-00001-of-00003.jsonl: was changed after it was made"),
        (other_settings, "is a shard of another build than pairs-00000-of-00003.jsonl"),
        (other_prompts, "is a shard of another build"),
        (other_count, "has shards of 3 and of 4 in its folder"),
        (renamed, "is not finished"),
        (occupied, "exists with other rows"),
    ],
)
def test_what_does_not_fit_is_not_merged(harm: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    out = all_of(tmp_path)
    harm(out)
    before = out.read_bytes() if out.exists() else None
    with pytest.raises(DataError, match=message):
        merge(out)
    assert (out.read_bytes() if out.exists() else None) == before


def test_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no shards in its folder"):
        merge(tmp_path / "pairs.jsonl")


def test_one_name_for_two_models_is_refused(tmp_path: Path) -> None:
    """As after training between two shards: the name is the same, the weights are not."""
    from twofold import disk

    out = all_of(tmp_path, 2)
    for i, weights in enumerate(("abc", "abd")):
        path = Shard(i, 2).path(out)
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for row in rows:
            row["provenance"]["chosen"] = {"model": "run", "weights": weights}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        seal = path.with_name(path.name.replace(".jsonl", ".shard.json"))
        told = disk.read_signed(seal, about=path.name)
        assert told is not None
        disk.write_signed(seal, {**told, "sha256": disk.sha256(path)}, about=path.name)
    with pytest.raises(DataError, match="answers of run with other weights than pairs-00000"):
        merge(out)
