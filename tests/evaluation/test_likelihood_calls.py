"""`preference` and `perplexity` of models whose probabilities are known, to the last row."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from support.frozen import refuse_changes
from support.heard import Heard
from support.speakers import speaker
from twofold.batch import Branch, Group, Role
from twofold.errors import DataError
from twofold.evaluation.figures import BinaryOutcomes, Ratio, comparisons
from twofold.evaluation.likelihood import (
    Likely,
    PerplexitySettings,
    likelihoods,
    perplexity,
    perplexity_entry,
    preference,
    preference_entry,
)
from twofold.records import Demonstration, Pair, Record, Source

FAIR = {"roll": {"1": 0.5, "2": 0.25, "3": 0.25}}
KEEN = {"roll": {"1": 0.125, "2": 0.5, "3": 0.375}, "1": {"1": 0.5, "</s>": 0.5}}
PAIRS = [
    Pair(prompt, chosen, rejected, Source("p", i))
    for i, (prompt, chosen, rejected) in enumerate(
        (("roll", "1", "2"), ("one roll", "2", "3"), ("roll", "3", "1"), ("two roll", "1", "3")), 1
    )
]
BITS = math.log(2)


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> str:
    return speaker(tmp_path_factory.mktemp("fair"), FAIR, words="one two")


@pytest.fixture(scope="module")
def keen(tmp_path_factory: pytest.TempPathFactory) -> str:
    return speaker(tmp_path_factory.mktemp("keen"), KEEN, words="one two")


def nats(model: dict[str, dict[str, float]], answer: str) -> float:
    """Of an answer's token and of the stop token behind it."""
    return math.log(model["roll"][answer]) + (math.log(model[answer]["</s>"]) if answer in model else 0.0)


def close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [row.keys() for row in found] == [row.keys() for row in expected]
    for row, known in zip(found, expected, strict=True):
        assert {k: v if isinstance(v, str) else pytest.approx(v, abs=1e-5) for k, v in known.items()} == row


def test_every_preference_of_two_models_against_a_reference(fair: str, keen: str) -> None:
    heard = Heard()
    found = preference([keen, fair, keen], PAIRS, reference=fair, progress=heard)
    rows = []
    for name, model in ((keen, KEEN), (fair, FAIR)):
        for pair in PAIRS:
            row: dict[str, Any] = {"model": name, "name": f"p:{pair.source.row}"}
            for side in ("chosen", "rejected"):
                text = getattr(pair, side)
                row |= {f"{side}_logp": nats(model, text), f"{side}_tokens": 2,
                        f"reference_{side}_logp": nats(FAIR, text)}  # fmt: skip
            lead = row["chosen_logp"] - row["rejected_logp"]
            gained = lead - row["reference_chosen_logp"] + row["reference_rejected_logp"]
            rows.append({**row, "reward": gained > 0, "logp": lead > 0, "logp_per_token": lead > 0})
    close(found.rows, rows)
    prompts = ["roll", "one roll", "roll", "two roll"]
    models = found.figures["models"]
    for i, (name, ties) in enumerate(((keen, 0), (fair, 4))):
        own = [row for row in rows if row["model"] == name]
        figures = {m: BinaryOutcomes([r[m] for r in own], prompts).estimate().as_dict()
                   for m in ("reward", "logp", "logp_per_token")}  # fmt: skip
        assert models[i] == {"name": name, **figures, "ties": ties}
    (reward, *_), tests = ([c["metric"] for c in found.figures["comparisons"]], found.figures["comparisons"])
    assert (reward, len(tests), tests[0]["n"]) == ("reward", 3, 3)  # two of the four pairs have one prompt
    assert heard.notes == [f"{keen}: 4 rows", f"{fair}: 4 rows", f"{fair}: 4 rows"]
    assert heard.of("log-probabilities") == [("begin", 4), *[("advance", 1, {})] * 4, ("end",)] * 3


def test_without_a_reference_there_is_no_reward(keen: str) -> None:
    found = preference([keen], PAIRS[:1])
    assert list(found.figures["models"][0]) == ["name", "logp", "logp_per_token", "ties"]
    assert not any(key.startswith("reference") or key == "reward" for key in found.rows[0])


def test_every_perplexity_of_two_models(fair: str, keen: str) -> None:
    """`1 1` is one token longer than the others: under keen 1/8 · 1/2 · 1/2."""
    records: list[Record] = [Demonstration("roll", a, Source("d", i)) for i, a in enumerate(("2", "1 1"), 1)]
    heard = Heard()
    found = perplexity([fair, keen, fair], records, progress=heard)
    known = {fair: (2 * BITS, BITS + 40.0), keen: (BITS, 5 * BITS)}
    tokens = (2.0, 3.0)
    assert [(row["model"], row["name"], row["completion_tokens"]) for row in found.rows] == [
        (name, f"d:{i}", n) for name in (fair, keen) for i, n in ((1, 2), (2, 3))
    ]
    assert [row["completion_logp"] for row in found.rows] == pytest.approx(
        [-x for name in (fair, keen) for x in known[name]], abs=1e-4
    )
    for told, name in zip(found.figures["models"], (fair, keen), strict=True):
        x = [-row["completion_logp"] for row in found.rows if row["model"] == name]
        assert told == {
            "name": name,
            "completion_perplexity": Ratio(x, tokens, exponential=True).estimate().as_dict(),
            "completion_perplexity_per_completion":
                Ratio([x[0] / 2, x[1] / 3], [1.0, 1.0], exponential=True).estimate().as_dict(),
            "completion_nats_per_completion": Ratio(x, [1.0, 1.0]).estimate().as_dict(),
        }  # fmt: skip
    assert [c["metric"] for c in found.figures["comparisons"]] == [
        "completion_perplexity", "completion_perplexity_per_completion", "completion_nats_per_completion",
    ]  # fmt: skip
    assert heard.notes == [f"{fair}: 2 rows", f"{keen}: 2 rows"]


def test_perplexities_of_other_tokens_are_not_compared() -> None:
    """Nats of whole completions are, whatever the tokenizer."""
    a, b = (perplexity_entry(n, [Likely("r", b"r", {"chosen": -4.0}, {"chosen": t})]) for n, t in (("a", 2), ("b", 4)))
    assert [c["metric"] for c in comparisons([a, b])] == ["chosen_nats_per_completion"]
    assert len(comparisons([a, replace(a, name="c")])) == 3
    assert "of logarithms" in comparisons([a, replace(a, name="c")])[1]["difference"]["method"]


@pytest.mark.parametrize("call", [preference, perplexity])
def test_what_is_too_long_is_refused_by_its_row(keen: str, call: Any) -> None:
    long = Pair("roll", "1", "1 1 1", Source("p", 9))
    assert len(call([keen], [*PAIRS, long], max_length=5).rows) == 5
    for words, limit, settings in ((long, 4, {"max_length": 4}), (replace(long, rejected="1 " * 4095), 4096, {})):
        with pytest.raises(DataError) as refused:
            call([keen], [*PAIRS, words], **settings)
        what = f"p:9: has {limit + 1} tokens, max_length is {limit}"
        assert str(refused.value) == f"{what}\n  → raise max_length, or change truncation (now refuse)"


def test_prompts_are_put_by_style_to_the_model_and_to_its_reference(tmp_path: Path) -> None:
    """Behind the template's A: an answer is 3, behind bare text 1; a model that was trained on bare text says so, and
    its reference then gets bare text too."""
    template = (
        "{% for m in messages %}{{ ' A: ' if m.role == 'assistant' }}{{ m.content }}{% endfor %}"
        "{{ ' A:' if add_generation_prompt }}"
    )
    table: dict[str, Any] = {"roll": {"1": 0.75, "3": 0.25}, "A:": {"1": 0.25, "3": 0.75}}
    chat, text = (speaker(tmp_path / n, table, chat_template=template) for n in ("chat", "text"))
    settings = tmp_path / "text" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "twofold_chat": "text"}))
    rows, heard = [Pair("roll", "1", "3", Source("p", 1))], Heard()
    for style, right in (("auto", False), ("chat", False), ("text", True)):
        assert preference([chat], rows, style=style).rows[0]["logp"] is right
        told = perplexity([chat], rows, style=style).figures["models"][0]["chosen_nats_per_completion"]["value"]
        assert told == pytest.approx(-math.log(0.75 if right else 0.25), abs=1e-5)
    found = preference([text, chat], rows, reference=chat, progress=heard)
    assert [row["logp"] for row in found.rows] == [True, False]
    assert [row["reward"] for row in found.rows] == [False, False]  # the same model, put to as the other was
    assert [model["ties"] for model in found.figures["models"]] == [1, 1]
    assert heard.notes == [f"{text}: 1 row", f"{chat}: 1 row", f"{chat}: 1 row", f"{chat}: 1 row"]


def test_of_a_triple_the_two_that_are_compared_count() -> None:
    tokens = [torch.tensor([4, 5]), torch.tensor([6]), torch.tensor([7, 8, 9])]
    triple = tuple(map(Branch, tokens, (Role.CHOSEN, Role.REJECTED, Role.DEMONSTRATION)))
    (row,) = likelihoods(tiny.policy(), [Group("t", torch.tensor([1]), triple)])
    assert row.tokens == {"chosen": 2, "rejected": 1}
    assert row.prompt == torch.tensor([1]).numpy().tobytes()
    refuse_changes(row, slots=True)
    refuse_changes(PerplexitySettings(max_length=9, progress=Heard()))


def test_rows_come_256_at_a_time() -> None:
    heard, groups = Heard(), tiny.groups(*[(1, 1)] * 257)
    found = likelihoods(tiny.policy(), groups, heard)
    assert [row.name for row in found] == [group.name for group in groups]
    assert heard.of("log-probabilities") == [("begin", 257), ("advance", 256, {}), ("advance", 1, {}), ("end",)]


def test_models_that_read_other_rows_are_not_compared() -> None:
    rows = likelihoods(tiny.policy(), tiny.pairs(3))
    with pytest.raises(ValueError):
        preference_entry("m", rows, rows[:2])
    told = perplexity_entry("m", rows)
    assert [row["name"] for row in told.rows] == ["row 0", "row 1", "row 2"]
    assert list(told.rows[0]) == [
        "model", "name", "chosen_logp", "chosen_tokens", "rejected_logp", "rejected_tokens",
    ]  # fmt: skip
