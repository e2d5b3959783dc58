"""Every verb on completions that are more than one text: a call, reasoning, a trajectory, and turns with weights. Each
works on all of a row, or refuses the row with a reason; nothing of a row is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from support.chat_folder import TURN_ROWS, saved
from support.openai_stub import Stub
from support.openai_stub import said as asked_of
from support.tool_templates import HERMES
from support.turn_by_turn import whole_turns
from twofold.data.dataset import as_tasks
from twofold.data.formats import read
from twofold.data.reasoning import without_reasoning
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.datagen.label import Labelling
from twofold.judges.questions import read_questions
from twofold.records import Demonstration, Pair, Ranking, Source, completion_fields

Run = Callable[..., Any]
CALL = '[assistant, call]\nweather({"city": "Rome"})'
TRAJECTORY = (
    '[assistant, call call12345]\nweather({"city": "Rome"})\n\n[tool, name weather, tool_call_id call12345]\n31 C\n\n'
    "[assistant]\n#### 31"
)
TRANSCRIPTS = [
    CALL,
    "[assistant, reasoning_content]\nIt is summer.\n\n[assistant]\nYes #### 1",
    TRAJECTORY,
    "[assistant]\nHm.\n\n[user]\nIs it warm in Oslo?\n\n[assistant]\n#### 31",
]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("chat") / "model")


@pytest.fixture(scope="session")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("chat") / "reward", scores=True)


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub(lambda body: "Verdict: A" if "Verdict" in asked_of(body) else "Score: 7")
    yield server
    server.close()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in TURN_ROWS), encoding="utf-8")
    return path


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def records(path: Path) -> list[Any]:
    return [replace(record, source=Source("", 0)) for record in read(str(path)).records]


def marks(record: Any) -> list[list[bool | None]]:
    """What rows mark of the turns of each completion, which equality of messages leaves out."""
    return [[turn.scored for turn in told] for _, told in completion_fields(record) if not isinstance(told, str)]


def in_parquet(rows: Path) -> Path:
    path = rows.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(TURN_ROWS), path)
    return path


def test_parquet_holds_the_same_rows(rows: Path) -> None:
    table = records(in_parquet(rows))
    assert table == records(rows)
    assert [marks(r) for r in table] == [marks(r) for r in records(rows)]


def test_check_and_show(twofold: Run, rows: Path, model: Path) -> None:
    assert "4 usable" in twofold("data", "check", rows, "--model", model).out
    shown = twofold("data", "show", rows, "--model", model).out
    for part in ('{"city": "Rome"}', "It is summer.", "31 C", "Is it warm in Oslo?", "Hm."):
        assert part in shown.replace("┆", "")


def test_a_reward_model_reads_what_its_template_renders(twofold: Run, rows: Path, reward: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    answer = twofold("score", rows, "--judge", f"reward:{reward}", "--out", out)
    assert answer.code == 0, answer.err
    head, tokenizer = Qwen2ForSequenceClassification.from_pretrained(reward), AutoTokenizer.from_pretrained(reward)
    assert records(out) == records(rows)
    for row, told in zip(TURN_ROWS, written(out), strict=True):
        for side in ("chosen", "rejected"):
            turns = json.loads(json.dumps([*row["prompt"], *row[side]]).replace("null", '""'))
            text = tokenizer.apply_chat_template(turns, tools=row.get("tools"), tokenize=False).rstrip("\n")
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.no_grad():
                score = head.score(head.model(ids).last_hidden_state[0, -1]).item()
            assert told[f"{side}_score"] == pytest.approx(score, abs=1e-4)


def test_a_verifier_reads_the_last_turn(twofold: Run, rows: Path, tmp_path: Path) -> None:
    answer = twofold("score", rows, "--judge", "verifier", "--out", tmp_path / "out.jsonl")
    assert answer.code == 0, answer.err
    scores = [(row["chosen_score"], row["rejected_score"]) for row in written(tmp_path / "out.jsonl")]
    assert scores == [(0.0, 0.0), (1.0, 0.0), (1.0, 0.0), (1.0, 0.0)]  # a call is no final answer


def test_language_models_read_transcripts(twofold: Run, stub: Stub, rows: Path, tmp_path: Path) -> None:
    judge = f"llm-score:{stub.url}#m"
    assert twofold("score", rows, "--judge", judge, "--out", tmp_path / "a.jsonl").code == 0
    told = [asked_of(body) for body in stub.requests]
    for transcript in TRANSCRIPTS:
        assert sum(f'part="answer">\n{transcript}\n</text-' in text for text in told) == 1
    assert sum('[tools]\n[{"type": "function"' in text for text in told) == 4
    stub.requests.clear()
    assert twofold("score", rows, "--judge", f"llm:{stub.url}#m", "--out", tmp_path / "b.jsonl").code == 0
    told = [asked_of(body) for body in stub.requests]
    for transcript in TRANSCRIPTS:
        assert [sum(f'"answer {side}">\n{transcript}\n</text-' in text for text in told) for side in "AB"] == [1, 1]
    assert [row["chosen_score"] for row in written(tmp_path / "b.jsonl")] == [0.5] * 4  # A in both orders is a tie


def test_built_rows_hold_the_turns(twofold: Run, rows: Path, model: Path, reward: Path, tmp_path: Path) -> None:
    own = records(rows)
    out = tmp_path / "pairs.jsonl"
    answer = twofold("data", "build", rows, "--judge", f"reward:{reward}", "--out", out)
    assert answer.code == 0, answer.err
    for made, record in zip(records(out), own, strict=True):
        assert made.prompt == record.prompt
        turned = made.chosen != record.chosen
        again = Pair(made.prompt, made.rejected, made.chosen, made.source) if turned else made
        assert (again.chosen, again.rejected) == (record.chosen, record.rejected)
        assert marks(again) == marks(record)
    assert "4 usable" in twofold("data", "check", out, "--model", model).out
    out = tmp_path / "labels.jsonl"
    assert twofold("data", "build", rows, "--judge", "verifier", "--as", "labels", "--out", out).code == 0
    labels = [(made.completion, made.desirable) for made in records(out)]
    assert labels == [label for r in own for label in ((r.chosen, r is not own[0]), (r.rejected, False))]
    out = tmp_path / "rankings.jsonl"
    assert twofold("data", "build", rows, "--judge", f"reward:{reward}", "--as", "rankings", "--out", out).code == 0
    for made, record in zip(records(out), own, strict=True):
        assert isinstance(made, Ranking)
        assert set(made.completions) == {record.chosen, record.rejected}


def test_people_read_transcripts(twofold: Run, rows: Path, tmp_path: Path) -> None:
    answers, out = tmp_path / "answers.jsonl", tmp_path / "pairs.jsonl"
    assert twofold("data", "build", rows, "--judge", "human", "--out", answers).code == 0
    with Labelling.open(read_questions(str(answers)).questions, out) as labelling:
        for transcript in TRANSCRIPTS:
            row = labelling.state()["row"]
            sides = {side: "".join(piece[0] for piece in row[side]) for side in ("left", "right")}
            side = next(side for side, text in sides.items() if text == transcript)
            labelling.give(row["key"], side, 1.0)
        assert labelling.write() == 4
    assert records(out) == records(rows)
    assert [marks(r) for r in records(out)] == [marks(r) for r in records(rows)]


def test_likelihoods_are_those_of_the_supervised_turns(twofold: Run, rows: Path, model: Path, tmp_path: Path) -> None:
    held, tokenizer = Qwen2ForCausalLM.from_pretrained(model).double(), AutoTokenizer.from_pretrained(model)
    encoder = Encoder(tokenizer, frozenset({257}), TokenizeSettings(max_length=4096))
    for task in ("preference", "perplexity"):
        out = tmp_path / task
        assert twofold("evaluate", model, "--task", task, "--tasks", rows, "--out", out).code == 0
        for record, told in zip(read(str(rows)).records, written(out / "rows.jsonl"), strict=True):
            group = encoder.group(record)
            with torch.no_grad():
                sums = [whole_turns(held, group, branch).sum().item() for branch in group.branches]
            assert [told["chosen_logp"], told["rejected_logp"]] == pytest.approx(sums, abs=2e-3)


def test_win_rates_against_turns(twofold: Run, rows: Path, model: Path, reward: Path, tmp_path: Path) -> None:
    answer = twofold(
        "evaluate", model, "--task", "win-rate", "--tasks", rows, "--judge", f"reward:{reward}", "--temperatures", 0,
        "--max-new-tokens", 3, "--out", tmp_path / "won",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    own = records(rows)
    compared = read_questions(str(tmp_path / "won" / "comparisons.jsonl")).questions
    assert [q.prompt for q in compared] == [r.prompt for r in own]
    assert [q.candidates[1].completion for q in compared] == [without_reasoning(r.chosen) for r in own]
    assert [row["other"][-1]["content"] for row in written(tmp_path / "won" / "rows.jsonl")][1:] == [
        "Yes #### 1", "#### 31", "#### 31",
    ]  # fmt: skip


def test_explain_shows_what_is_between_turns(twofold: Run, rows: Path, model: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "a.json", tmp_path / "a.html"
    answer = twofold("explain", model, rows, "--reference", model, "--rows", 4, "--json", out, "--html", page)
    assert answer.code == 0, answer.err
    told = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert ["context" in side for row in told for side in row["completions"]] == [False] * 4 + [True] * 4
    chosen = told[2]["completions"][0]
    (between,) = chosen["context"]
    assert "<tool_response>\n31 C\n</tool_response>" in between["text"]
    texts = [token["text"] for token in chosen["tokens"]]
    assert "".join(texts[between["before"] :]).endswith("#### 31<|im_end|>")
    assert '"city": "Rome"' in "".join(texts[: between["before"]])
    assert "31 C" in answer.out
    assert '<i class="context">' in page.read_text(encoding="utf-8")
    assert "Is it warm in Oslo?" in told[3]["completions"][0]["context"][0]["text"]


def test_prompts_of_such_rows_are_answered(twofold: Run, rows: Path, model: Path, reward: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    assert twofold("sample", model, "--file", rows, "--max-new-tokens", 3, "--out", out).code == 0
    assert [record.prompt for record in records(out)] == [record.prompt for record in records(rows)]
    answer = twofold(
        "evaluate", model, "--task", "frontier", "--tasks", rows, "--reward", f"reward:{reward}", "--reference", model,
        "--max-new-tokens", 3,
    )  # fmt: skip
    assert answer.code == 0, answer.err


def recipe(folder: Path, model: Path, rows: Path, **sections: Any) -> Path:
    path = folder / f"{folder.name}.yaml"
    whole = {
        "model": {"path": str(model)}, "data": {"train": str(rows), "tokenize": {"max_length": 2048}},
        "objective": {"kind": "dpo"}, "training": {"steps": 1, "batch_size": 2}, "run": str(folder / "run"), **sections,
    }  # fmt: skip
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def pdpo(folder: Path, model: Path, rows: Path, truths: list[dict[str, Any]]) -> Path:
    """PDPO on `rows`, whose generator pulls towards the chosen completions of `truths`."""
    file = folder / "truths.jsonl"
    asked = {"role": "user", "content": "Once more: is it warm?"}
    lines = [{k: v for k, v in {**row, "prompt": [asked]}.items() if k != "answer"} for row in truths]
    file.write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    data = {"train": str(rows), "generator": {"file": str(file)}, "tokenize": {"max_length": 2048}}
    algorithm = {"kind": "pdpo", "prompts": 1, "warmup": 0}
    return recipe(folder, model, rows, data=data, algorithm=algorithm, sampling={"max_new_tokens": 3})


def test_a_generator_refuses_a_truth_of_several_turns(twofold: Run, rows: Path, model: Path, tmp_path: Path) -> None:
    answer = twofold("train", pdpo(tmp_path, model, rows, TURN_ROWS[2:3]))
    assert (answer.code, "Traceback" in answer.err) == (2, False)
    assert f"{tmp_path / 'truths.jsonl'}:1" in answer.err
    assert "its reference answer has 3 turns, and a sample is one turn" in answer.err


@pytest.mark.slow
def test_training_with_a_cached_reference(twofold: Run, rows: Path, model: Path, tmp_path: Path) -> None:
    first: list[float] = []
    for file in (rows, in_parquet(rows)):
        folder = tmp_path / file.suffix[1:]
        folder.mkdir()
        path = recipe(folder, model, file, reference={"kind": "cached"}, training={"steps": 2, "batch_size": 4})
        answer = twofold("train", path, "data.ignore=[answer]")
        assert answer.code == 0, answer.err
        first.append(written(folder / "run" / "metrics.jsonl")[0]["loss"])
    assert first[0] == pytest.approx(0.6931, abs=1e-4)
    assert first[0] == first[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_generator_pulls_towards_one_turn(twofold: Run, rows: Path, model: Path, tmp_path: Path, number: int) -> None:
    answer = twofold("train", pdpo(tmp_path, model, rows, [TURN_ROWS[number]]), "training.steps=2")
    assert answer.code == 0, answer.err


@pytest.mark.slow
def test_verbs_read_parquet(twofold: Run, rows: Path, model: Path, reward: Path, tmp_path: Path) -> None:
    table = in_parquet(rows)
    for judge in (f"reward:{reward}", "verifier"):
        outs = [tmp_path / f"{file.suffix[1:]}.jsonl" for file in (rows, table)]
        for file, out in zip((rows, table), outs, strict=True):
            assert twofold("score", file, "--judge", judge, "--out", out).code == 0
        assert [[r["chosen_score"], r["rejected_score"]] for r in written(outs[0])] == [
            [r["chosen_score"], r["rejected_score"]] for r in written(outs[1])
        ]
    for command in (
        ("data", "check", table, "--model", model), ("data", "show", table, "--model", model),
        ("data", "report", table, "--out", tmp_path / "page.html"), ("explain", model, table, "--reference", model),
        ("data", "build", table, "--judge", "verifier", "--out", tmp_path / "built.jsonl"),
        ("evaluate", model, "--task", "preference", "--tasks", table),
    ):  # fmt: skip
        answer = twofold(*command)
        assert answer.code == 0, answer.err


def test_what_a_template_does_not_show_is_refused_by_row(
    twofold: Run, rows: Path, model: Path, reward: Path, tmp_path: Path
) -> None:
    """Reasoning, by a template without any, in every verb that renders rows."""
    blind = tmp_path / "blind"
    for folder, name in ((model, "m"), (reward, "r")):
        (blind / name).mkdir(parents=True)
        for file in folder.iterdir():
            (blind / name / file.name).write_bytes(file.read_bytes())
        (blind / name / "chat_template.jinja").write_text(HERMES, encoding="utf-8")
    for command in (
        ("score", rows, "--judge", f"reward:{blind / 'r'}", "--out", tmp_path / "s.jsonl"),
        ("evaluate", blind / "m", "--task", "preference", "--tasks", rows),
        ("explain", blind / "m", rows, "--reference", blind / "m"),
    ):
        answer = twofold(*command)
        assert answer.code == 2
        assert "rows.jsonl:2" in answer.err
        assert "does not show its key `reasoning_content`" in answer.err
        assert "Traceback" not in answer.err


def test_a_generators_truth_is_the_whole_turn(rows: Path, model: Path) -> None:
    """Its tokens are those that a demonstration of the same turn supervises."""
    encoder = Encoder(AutoTokenizer.from_pretrained(model), frozenset({257}), TokenizeSettings(max_length=4096))
    for record in read(str(rows)).records[:2]:
        assert isinstance(record, Pair)
        (task,) = as_tasks([record])
        group, shown = encoder.group(task), encoder.group(Demonstration(record.prompt, record.chosen, record.source))
        assert group.truth is not None
        assert group.truth.tolist() == shown.branches[0].tokens.tolist()
        assert group.prompt.tolist() == shown.prompt.tolist()
