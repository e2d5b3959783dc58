"""A folder read against another: rows of every shape, lengths, drift and the words on the way; and the whole answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from support import tiny
from twofold.analysis.credit import Credited, CreditedRow, ledger, parting, token_rewards
from twofold.analysis.displacement import split
from twofold.analysis.drift import Drift, Style, drift
from twofold.analysis.explain_model import explain_model
from twofold.analysis.explanation import MOST_TOKENS, explain, pieces
from twofold.batch import Role
from twofold.demo.build import character_tokenizer
from twofold.errors import DataError, ModelError
from twofold.models.attention import stock_attention
from twofold.models.policy import Policy
from twofold.progress import Silent
from twofold.records import Demonstration, Labelled, Pair, Ranking, Record, Request, Source, Task
from twofold.sampling.base import Sample
from twofold.statistics import Estimate, clustered_mean, clustered_share, mean_interval, wilson


class Notes(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def store(path: Path, seed: int, tokenizer: PreTrainedTokenizerFast) -> str:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    tiny.sharp(LlamaForCausalLM(config), seed).save_pretrained(path)  # type: ignore[arg-type]  # a model
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = tmp_path_factory.mktemp("models")
    return store(path / "own", 0, character_tokenizer()), store(path / "reference", 1, character_tokenizer())


def source(row: int) -> Source:
    return Source("rows.jsonl", row)


SHAPES: list[Record] = [
    Pair("ask 1", "yes", "no", source(1)),
    Ranking("ask 2", ("a", "bb", "ccc"), source(2)),
    Demonstration("ask 3", "shown", source(3)),
    Labelled("ask 4", "bad", False, source(4)),
    Task("ask 1", "42", source(5)),
]


def test_rows_of_every_shape_are_read(folders: tuple[str, str]) -> None:
    notes = Notes()
    found, decode = explain_model(folders[0], SHAPES, reference=folders[1], fewest=2, beta=0.25, progress=notes)
    labels = [[c.label for c in row.completions] for row in found.rows]
    assert labels == [
        ["chosen", "rejected"], ["rank 1", "rank 2", "rank 3"], ["demonstration"], ["undesirable"], ["truth"],
    ]  # fmt: skip
    assert [decode(found.rows[i].completions[0].tokens) for i in (0, 4)] == ["yes<eos>", "42<eos>"]
    assert decode(found.rows[2].prompt) == "<bos>ask 3"
    assert (found.beta, found.drift, len(found.rows)) == (0.25, None, 5)
    assert notes.notes[-1] == f"5 rows: {folders[0]} against {folders[1]}, β 0.25"
    assert found.accuracy is not None
    assert found.accuracy.n == 2
    shifted = explain_model(folders[0], SHAPES, reference=folders[1], fewest=2)[0]
    assert shifted.beta == 0.1
    assert shifted.rows[0].completions[0].reward == pytest.approx(found.rows[0].completions[0].reward / 2.5, rel=1e-5)
    same = explain_model(folders[0], SHAPES[:1], reference=folders[0])[0]
    assert same.rows[0].completions[0].credit.tolist() == [0.0] * 4
    assert same.tokens.counted == 0  # a token must stand in ten rows
    assert found.tokens.counted > 0


def test_rows_that_are_too_long_are_left_out(folders: tuple[str, str]) -> None:
    rows: list[Record] = [Pair("ask", "yes", "no", source(1)), Pair("ask", "y" * 100, "no", source(2))]
    assert len(explain_model(folders[0], rows, reference=folders[1])[0].rows) == 2
    assert len(explain_model(folders[0], rows, reference=folders[1], max_length=50)[0].rows) == 1


def test_both_models_answer_as_many_prompts_as_are_wanted(folders: tuple[str, str]) -> None:
    """Rows 1 and 5 ask the same, which counts once."""
    notes = Notes()
    how: dict[str, Any] = {"reference": folders[1], "progress": notes, "max_new_tokens": 3}
    found = explain_model(folders[0], SHAPES, drift=3, **how)[0]
    assert found.drift is not None
    assert found.drift.prompts == 3
    assert found.drift.policy.length.value <= 3
    assert found.drift.kl.value > 0
    assert notes.notes[-2:] == ["3 prompts answered at temperature 1"] * 2
    every = explain_model(folders[0], SHAPES, drift=99, **how)[0]
    assert every.drift is not None
    assert every.drift.prompts == 4
    explain_model(folders[0], SHAPES, drift=1, **how)
    assert notes.notes[-2:] == ["1 prompt answered at temperature 1"] * 2


def test_another_vocabulary_and_prompts_alone_are_refused(folders: tuple[str, str], tmp_path: Path) -> None:
    tokenizer = character_tokenizer()
    tokenizer.add_tokens(["<more>"])
    other = store(tmp_path / "other", 1, tokenizer)
    with pytest.raises(ModelError) as error:
        explain_model(folders[0], SHAPES, reference=other)
    assert str(error.value) == (
        f"{other}: has another vocabulary than the model: their tokens cannot be compared\n"
        "  → name the model that it was trained from"
    )
    with pytest.raises(DataError) as refused:
        explain_model(folders[0], [*SHAPES, Request("ask", source(6))], reference=folders[1])
    assert str(refused.value) == "rows.jsonl: contains only prompts\n  → rows need an answer to the prompt"


def text(ids: Sequence[int]) -> str:
    return "".join(chr(96 + i) for i in ids)


def credited(role: Role, tokens: list[int], credit: list[float]) -> Credited:
    return Credited(role, 0, tuple(tokens), -np.arange(1.0, len(tokens) + 1), np.array(credit))


def test_the_answer_holds_every_part_by_its_name() -> None:
    policy, reference, groups = tiny.policy(0), tiny.policy(1), tiny.pairs(12)
    groups[3] = replace(groups[3], branches=(replace(groups[3].branches[0], role=Role.DEMONSTRATION),))
    rows = token_rewards(policy, groups, beta=0.5, reference=reference)
    found = explain(rows, groups, str, beta=0.5, fewest=3)
    pairs = [i for i in range(12) if i != 3]
    partings = [p for row in rows if (p := parting(row))]
    assert found.rewards["demonstration"].value == rows[3].completions[0].reward
    assert found.rewards["rejected"] == mean_interval([rows[i].completions[1].reward for i in pairs])
    assert found.accuracy == wilson(sum(p.margin > 0 for p in partings), 11)
    assert found.partings is not None
    assert found.partings.margin == mean_interval([p.margin for p in partings])
    changes = [[c.credit / 0.5 for c in rows[i].completions] for i in pairs]
    assert found.displacement == split([groups[i] for i in pairs], changes, text=lambda t: str(t.tolist()))
    assert found.tokens == ledger(rows, str, lengths=range(1, 2), fewest=3, least=0.005)
    assert found.phrases == ledger(rows, str, lengths=range(2, 4), fewest=3, least=0.005)
    told = found.as_dict(str)
    assert set(told) == {
        "beta", "n", "rewards", "accuracy", "partings", "displacement", "tokens", "phrases", "rows",
    }  # fmt: skip
    assert (told["beta"], told["n"], len(told["rows"])) == (0.5, 12, 12)
    assert set(told["rows"][3]) == {"name", "prompt", "completions"}
    assert [row["name"] for row in found.as_dict(str, shown=[5, 1])["rows"]] == ["row 5", "row 1"]
    assert found.as_dict(str, shown=[])["rows"] == []
    shown, change = told["rows"][4], found.displacement.pairs[3]
    assert (shown["chosen_change"], shown["likely"]) == (change.chosen, change.likely)
    assert shown["likeness"] == change.likeness
    where = parting(rows[4])
    assert where is not None
    assert (shown["margin"], shown["parts"], shown["opening"]) == (where.margin, dict(where.parts), where.opening)
    assert told["tokens"]["counted"] == found.tokens.counted
    assert "drift" not in told


def test_equal_sides_are_not_in_order() -> None:
    rows = [CreditedRow("a", (1,), (credited(Role.CHOSEN, [1], [0.5]), credited(Role.REJECTED, [2], [0.5])))]
    groups = tiny.groups((1, 1, 1))
    accuracy = explain(rows, groups, text, beta=1.0).accuracy
    assert accuracy is not None
    assert (accuracy.count, accuracy.n) == (0, 1)


def test_what_is_told_of_stands_in_ten_rows_by_default() -> None:
    rows = [
        CreditedRow(str(i), (1,), (credited(Role.DRAFT, [1, 2, 3] if i else [1, 4], [1.0] * (3 if i else 2)),))
        for i in range(10)
    ]
    found = explain(rows, tiny.groups(*[(1, 1)] * 10), text, beta=1.0)
    assert ([p.text for p in found.tokens.credited], found.tokens.counted, found.phrases.counted) == (["a"], 1, 0)
    more = explain(rows, tiny.groups(*[(1, 1)] * 10), text, beta=1.0, fewest=9)
    assert ([p.text for p in more.phrases.credited], more.tokens.counted, more.phrases.counted) == (["abc"], 3, 3)


@pytest.mark.parametrize("beta", [0.05, 0.5, 1.0])
def test_what_surely_gains_a_hundredth_of_a_nat_is_told_of(beta: float) -> None:
    """Rewards are β times nats: 1 gains 0.002 nats, 2 and 4 0.011 each, 3 and 5 0.004 and 0.005."""
    nats = [0.002, 0.011, 0.004, 0.011, 0.005]
    rows = [
        CreditedRow(str(i), (1,), (credited(Role.DRAFT, [1, 2, 3, 4, 5], [beta * n for n in nats]),)) for i in range(4)
    ]
    found = explain(rows, tiny.groups(*[(1, 1)] * 4), text, beta=beta, fewest=4)
    assert {p.text for p in found.tokens.credited} == {"b", "d"}
    assert (found.tokens.counted, found.phrases.counted) == (5, 4 + 3)  # of two tokens and of three
    low = [CreditedRow(r.name, r.prompt, (credited(Role.DRAFT, [1, 3], [0.004 * beta] * 2),)) for r in rows]
    assert explain(low, tiny.groups(*[(1, 1)] * 4), text, beta=beta, fewest=4).phrases.credited == ()


def test_rows_and_groups_belong_together() -> None:
    rows = [CreditedRow("a", (1,), (credited(Role.DRAFT, [1], [0.5]),))]
    with pytest.raises(ValueError, match="zip"):
        explain(rows, tiny.groups((1, 1), (1, 1)), text, beta=1.0)


def test_a_completion_is_told_token_by_token_up_to_a_bound() -> None:
    long = [1 + i % 3 for i in range(MOST_TOKENS + 5)]
    both = (credited(Role.DESIRABLE, [1, 2], [0.5, -1.0]), credited(Role.DRAFT, long, [1.0] * 805))
    rows = [CreditedRow("a", (7, 8), both)]
    (told,) = explain(rows, tiny.groups((2, 2)), text, beta=1.0).as_dict(text)["rows"]
    assert (told["name"], told["prompt"]) == ("a", "gh")
    first, second = told["completions"]
    assert first == {
        "label": "desirable", "reward": -0.5, "length": 2,
        "tokens": [{"id": 1, "text": "a", "credit": 0.5, "logp": -1.0},
                   {"id": 2, "text": "b", "credit": -1.0, "logp": -2.0}],
    }  # fmt: skip
    assert (second["length"], len(second["tokens"]), second["reward"]) == (805, 800, 805.0)
    assert second["tokens"][-1]["text"] == text(long[799:800])


def test_pieces_are_read_behind_the_last_eight_tokens_of_the_prompt() -> None:
    seen: list[list[int]] = []

    def decode(ids: Sequence[int]) -> str:
        seen.append(list(ids))
        return text(ids)

    assert pieces(list(range(1, 12)), [20, 21], decode) == ["t", "u"]
    assert seen == [[*range(4, 12)], [*range(4, 12), 20], [*range(4, 12), 20, 21]]
    assert pieces([], [1, 2, 3], text) == ["a", "b", "c"]
    assert pieces([1], [], text) == []


@pytest.mark.parametrize(
    ("texts", "want"),
    [
        (["", "ab", "a", "abc"], ["ab", "", "c"]),  # a token may take back what came before it
        (["x", "xy?", "xyz"], ["y", "z"]),
        (["", "?", "é"], ["", "é"]),
        (["", "日?", "日本"], ["日", "本"]),  # letters that Python does not share between texts
        (["", "ab?!", "ab"], ["ab", ""]),  # the rest of the text goes
    ],
)
def test_a_piece_ends_where_the_text_no_longer_changes(texts: list[str], want: list[str]) -> None:
    def decode(ids: Sequence[int]) -> str:
        return texts[len(ids)]

    assert pieces([], list(range(len(texts) - 1)), decode) == want


def draft(*tokens: int, truncated: bool = False) -> Sample:
    return Sample(torch.tensor(tokens), torch.zeros(len(tokens)), truncated)


def test_what_two_models_say_with_intervals_that_know_prompts() -> None:
    """Two answers of each model to each of two prompts."""
    policy, reference = (Policy(tiny.llama(seed).double()) for seed in (0, 1))
    prompts = [torch.tensor([1, 2]), torch.tensor([3])]
    own = [[draft(4, 5, 6), draft(4, 5, truncated=True)], [draft(4, 5, 4, 5), draft(7)]]
    other = [[draft(4), draft(5)], [draft(4, 5, 9, truncated=True), draft(4, 6, truncated=True)]]
    found = drift(policy, reference, prompts, own, other)

    def sums(model: Policy, against: Policy | None, prompt: torch.Tensor, row: list[Sample]) -> tuple[float, ...]:
        entropy = kl = drawn = 0.0
        for each in row:
            whole = torch.cat([prompt, each.tokens])[None, :-1]
            with torch.no_grad(), stock_attention(model.model), stock_attention((against or model).model):
                p, q = (m.model(whole).logits[0, len(prompt) - 1 :].log_softmax(-1) for m in (model, against or model))
            entropy -= (p.exp() * p).sum().item()
            kl += (p.exp() * (p - q)).sum().item()
            drawn += (p - q).gather(1, each.tokens[:, None]).sum().item()
        return entropy, kl, drawn

    mine = np.array([sums(policy, reference, p, row) for p, row in zip(prompts, own, strict=True)])
    theirs = np.array([sums(reference, None, p, row) for p, row in zip(prompts, other, strict=True)])

    def same(a: Estimate, b: Estimate) -> None:
        assert (a.n, a.method, a.count) == (b.n, b.method, b.count)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-6)

    assert found.prompts == 2
    same(found.kl, clustered_mean(mine[:, 1], [2, 2]))
    same(found.kl_drawn, clustered_mean(mine[:, 2], [2, 2]))
    same(found.kl_token, clustered_mean(mine[:, 1], [5, 5]))
    same(found.longer, mean_interval([5 / 2 - 2 / 2, 5 / 2 - 5 / 2]))
    same(found.surer, mean_interval([theirs[0, 0] / 2 - mine[0, 0] / 5, theirs[1, 0] / 5 - mine[1, 0] / 5]))
    same(found.policy.length, clustered_mean([5, 5], [2, 2]))
    same(found.policy.entropy, clustered_mean(mine[:, 0], [5, 5]))
    same(found.policy.truncated, clustered_share([1, 0], [2, 2]))
    same(found.reference.truncated, clustered_share([0, 2], [2, 2]))
    same(found.reference.length, clustered_mean([2, 5], [2, 2]))
    same(found.reference.entropy, clustered_mean(theirs[:, 0], [2, 5]))
    # Of the reference's 7 tokens 4, 5, 6 and 9 are different ones, of its 3 pairs all, and its one triple; of the
    # policy's first 7 tokens 4, 5, 6; of its first 3 pairs 4 5 twice.
    assert found.reference.distinct == (4 / 7, 1.0, 1.0)
    assert found.policy.distinct == (3 / 7, 2 / 3, 1.0)


@pytest.mark.parametrize("lacking", ["prompts", "own", "other"])
def test_drift_needs_answers_of_both_models_to_every_prompt(lacking: str) -> None:
    policy = Policy(tiny.llama(0).double())
    row: dict[str, Any] = {"prompts": [torch.tensor([1])], "own": [[draft(1)]], "other": [[draft(1)]]}
    row[lacking] = [] if lacking == "prompts" else [[]]
    with pytest.raises(ValueError) as error:
        drift(policy, policy, row["prompts"], row["own"], row["other"])
    assert str(error.value) == "drift needs prompts, and answers of both models to each"


def test_drift_is_told_without_what_it_has_none_of() -> None:
    share, mean = Estimate(0.5, 0.1, 0.9, 4, 2, "shares"), Estimate(1.0, 0.5, 1.5, 4, None, "means")
    style = Style(mean, share, mean, (0.5, 0.25))
    made = Drift(4, style, style, mean, mean, mean, mean, mean)
    rows = [CreditedRow("a", (1,), (credited(Role.DRAFT, [1], [0.5]),))]
    told = explain(rows, tiny.groups((1, 1)), text, beta=1.0, drift=made).as_dict(text)["drift"]
    plain = {"value": 1.0, "low": 0.5, "high": 1.5, "n": 4, "method": "means"}
    assert told["kl"] == told["surer"] == plain
    assert told["policy"]["truncated"] == share.as_dict()
    assert told["policy"]["truncated"]["count"] == 2
    assert told["policy"]["distinct"] == (0.5, 0.25)
