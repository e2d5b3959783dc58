"""The tasks with a trained judge: openings of reviews under a classifier, harmless pairs under a reward model."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from shutil import copytree

import pyarrow
import pyarrow.parquet
import pytest

from experiments.frontier.imdb import Sentiment
from experiments.harness.files import read_rows
from experiments.pretrained.cells import Bench, Cell
from experiments.pretrained.gsm8k import ShortProblems
from experiments.pretrained.harmless import JUDGED, Harmless
from experiments.pretrained.methods import METHODS
from experiments.pretrained.protocol import Protocol
from experiments.pretrained.reward_models import RewardModel
from experiments.pretrained.sentiment import CLASSIFIER, INSTRUCTION, Openings, SentimentTask
from experiments.pretrained.tasks import TaskRow, rows_of
from support.word_chain import letter_chain
from twofold.progress import Silent

SMALL = Protocol(tokens=1500, batch_size=4, rank=2, max_new_tokens=8, samples=2, best_of=2, precision="float32")
REQUEST = "Reason step by step. End with a line `#### N`, where N is the number alone."
JUDGE = RewardModel(steps=2, batch_size=4, rank=2, precision="float32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letter_chain(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those that like a film have an `a` in every word, the others an `e`."""
    folder = tmp_path_factory.mktemp("reviews")
    for split in ("train", "test"):
        texts = [" ".join(f"{split[-1]}{i % 7}{'ae'[i % 2] * (1 + (i + j) % 3)}s" for j in range(6)) for i in range(60)]
        rows = {"text": texts, "label": [("pos", "neg")[i % 2] for i in range(60)]}
        pyarrow.parquet.write_table(pyarrow.table(rows), folder / f"{split}.parquet")
    return folder


@pytest.mark.slow
def test_continuations_are_judged_with_their_openings_by_the_classifier(
    tmp_path: Path, base: Path, reviews: Path
) -> None:
    how = Openings(train=10, development=3, test=4, words=2)
    task = SentimentTask(source=reviews, openings=how, tokens=8, reward_model=JUDGE)
    bench = Bench(tmp_path, task, str(base), SMALL, Silent())
    bench.here.mkdir()
    facts = task.prepare(bench.here, bench.base, Silent())
    assert facts["classifier, reviews"]["n"] == 60
    assert facts["reward model"]["n"] > 0
    truth = Sentiment.load(bench.here / CLASSIFIER)
    row = TaskRow(f"{INSTRUCTION}as es", None, "x")
    assert task.values(bench.here, [row], [["aas", "ees"]]) == [[truth("as es aas"), truth("as es ees")]]
    for pair in read_rows(bench.here / "pairs.jsonl"):
        opening = pair["prompt"].removeprefix(INSTRUCTION)
        assert truth(f"{opening} {pair['chosen']}") > truth(f"{opening} {pair['rejected']}")
    splits = [{r["prompt"] for r in read_rows(bench.here / f"{s}.jsonl")} for s in ("problems", "development", "test")]
    assert [len(split) for split in splits] == [10, 3, 4]
    assert not splits[0] & splits[1] | splits[0] & splits[2] | splits[1] & splits[2]
    reply = bench.result(Cell("GRPO", METHODS["GRPO"].grid[0], 1))
    assert all(0 < value < 1 for value in reply["values"])
    assert reply["tokens"]["sampled"] > 0


def hh_pair(*turns: str, chosen: str = "aaaaa", rejected: str = "ee s") -> dict[str, str]:
    """A row as HH has it: the dialog and the answer in one text."""
    speakers = cycle(("Human", "Assistant"))
    dialog = "".join(f"\n\n{speaker}: {text}" for speaker, text in zip(speakers, turns, strict=False))
    return {"chosen": f"{dialog}\n\nAssistant: {chosen}", "rejected": f"{dialog}\n\nAssistant: {rejected}"}


@pytest.fixture
def chatting(base: Path, tmp_path: Path) -> Path:
    """The base with a chat template: dialogs of the judge are chats."""
    folder = Path(copytree(base, tmp_path / "chatting"))
    turns = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    opened = "{% if add_generation_prompt %}assistant: {% endif %}"
    (folder / "chat_template.jinja").write_text(turns + opened, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_answers_are_judged_beside_those_that_people_chose(tmp_path: Path, chatting: Path) -> None:
    """A dialog that begins with a tested question is in no file. Those that begin with another one train the judge."""
    source = tmp_path / "hh.jsonl.gz"
    single = [hh_pair(f"ask {i}") for i in range(24)]
    longer = [hh_pair(first, f"a as e{i}", "as es") for i in range(3) for first in ("ask 4", "ask 9")]
    too_long = [hh_pair("ask 30", "a" * 21, "as es"), hh_pair("a" * 11), hh_pair("ask 31", chosen="a" * 11)]
    with gzip.open(source, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in [*single, *longer, *too_long, hh_pair("ask 0", chosen="es")])
    task = Harmless(source, development=3, test=4, longest=10, reward_model=replace(JUDGE, pairs=JUDGED))
    bench = Bench(tmp_path, task, str(chatting), SMALL, Silent())
    bench.here.mkdir()
    facts = task.prepare(bench.here, bench.base, Silent())
    assert (facts["pairs"], facts["pairs of the judge"], facts["reward model"]["n"]) == (17, 3, 7)
    assert read_rows(bench.here / JUDGED)[0] == {
        "prompt": [
            {"role": "user", "content": "ask 9"},
            {"role": "assistant", "content": "a as e0"},
            {"role": "user", "content": "as es"},
        ],
        "chosen": [{"role": "assistant", "content": "aaaaa"}],
        "rejected": [{"role": "assistant", "content": "ee s"}],
    }
    assert [row["prompt"] for row in read_rows(bench.here / "pairs.jsonl")] == [f"ask {i}" for i in range(7, 24)]
    tested = rows_of(bench.here, "test")
    assert [(row.prompt, row.answer) for row in tested] == [(f"ask {i}", "aaaaa") for i in range(3, 7)]
    values = task.values(bench.here, tested[:1], [["aaaaa", "s e", " "]])
    assert (values[0][0], values[0][2]) == (0.5, 0.0)
    assert values[0][1] in (0.0, 1.0)
    reply = bench.result(Cell("DPO", METHODS["DPO"].grid[0], 1))
    assert reply["accuracy"]["n"] == 7
    assert set(reply["values"]) <= {0.0, 0.25, 0.5, 0.75, 1.0}


def test_problems_with_short_solutions_are_taken_and_only_wrong_answers_rejected(tmp_path: Path, base: Path) -> None:
    """The model's letters are never a number, but for the answer that is put into its file of samples."""
    long, short = "word " * 80 + "\n#### 1", "a<<1+1=2>> is 2\n#### {}"
    for split, num in (("train", 8), ("test", 6)):
        rows = [{"question": f"{split} {i}?", "answer": long if i == 1 else short.format(i)} for i in range(num)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = ShortProblems(tmp_path, train=5, development=2, test=2, tokens=40, own_tokens=12)
    bench = Bench(tmp_path / "out", task, str(base), SMALL, Silent())
    bench.here.mkdir(parents=True)
    problems = [{"prompt": f"train {i}?\n\n{REQUEST}", "answer": f"a is 2\n#### {i}"} for i in (0, 2, 3, 4, 5)]
    own = [
        {"prompt": row["prompt"], "completion": f"it is {n}"} for row, n in zip(problems, (0, 7, 7, 4, 8), strict=True)
    ]
    (bench.here / "own-pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    facts = task.prepare(bench.here, bench.base, Silent())
    assert read_rows(bench.here / "problems.jsonl") == problems
    tested = [[row.prompt[:6] for row in rows_of(bench.here, split)] for split in ("development", "test")]
    assert tested == [["test 0", "test 2"], ["test 3", "test 4"]]
    pairs = read_rows(bench.here / "pairs.jsonl")
    assert [(row["chosen"][-1], row["rejected"]) for row in pairs] == [
        ("2", "it is 7"),
        ("3", "it is 7"),
        ("5", "it is 8"),
    ]
    assert facts == {"pairs": 3, "own samples that are right": pytest.approx((2 / 5 + 0) / 2)}
    heldout = read_rows(bench.here / "heldout.jsonl")
    assert {row["prompt"][:6] for row in heldout} <= {"test 0", "test 2"}
    rows = rows_of(bench.here, "test")
    assert task.values(bench.here, rows, [["so 3", "so 4"], ["#### 4", ""]]) == [[1.0, 0.0], [1.0, 0.0]]
    assert bench.result(Cell("base", {}, 0))["values"] == [0.0, 0.0]


def test_missing_data_is_named(tmp_path: Path, base: Path) -> None:
    for task in (SentimentTask(source=tmp_path), Harmless(tmp_path / "none.gz"), ShortProblems(tmp_path)):
        with pytest.raises(SystemExit, match="skipped: no "):
            task.prepare(tmp_path, str(base), Silent())
