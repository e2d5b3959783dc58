"""How segments share calls, which rows share a call, and the bounds of both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tr
from torch import Tensor, nn

from support import tiny
from twofold.batch import Branch, Group, Role
from twofold.models.packing import Packing, Segment, _by_length, bins, pack
from twofold.models.row_lengths import EACH_ITS_OWN, RowLengths, restart_rotary, rope_kind, rope_tables


def segment(keys: int, queries: int | None = None) -> Segment:
    return Segment(torch.arange(queries or keys), torch.arange(keys), keys - (queries or keys))


@pytest.mark.parametrize(
    ("lengths", "chunks"),
    [
        ([], []),
        ([5], [[5]]),
        ([1, 17, 18], [[1, 17], [18]]),  # 16 tokens more than the shortest
        ([18, 1, 17], [[1, 17], [18]]),
        ([100, 125, 126], [[100, 125], [126]]),  # or a quarter
        ([300, 318, 319, 320, 330], [[300, 318, 319], [320], [330]]),  # long ones stand alone
        ([2, 10, 18, 26, 34], [[2, 10, 18], [26, 34]]),  # by the shortest, not by the last
    ],
)
def test_segments_of_similar_length_share_a_call(lengths: list[int], chunks: list[list[int]]) -> None:
    assert [[len(s.key) for s in chunk] for chunk in _by_length([segment(n) for n in lengths])] == chunks


def test_of_equal_keys_the_shorter_queries_come_first() -> None:
    (chunk,) = _by_length([segment(9, 9), segment(9, 2), segment(8, 8)])
    assert [(len(s.key), len(s.query)) for s in chunk] == [(8, 8), (9, 2), (9, 9)]


def two_groups() -> list[Group]:
    """A prompt of 3 with branches of 3, 1 and 2 tokens; a prompt of 1 with one of 2."""

    def group(name: str, prompt: list[int], *branches: list[int]) -> Group:
        return Group(name, torch.tensor(prompt), tuple(Branch(torch.tensor(b), Role.DRAFT) for b in branches))

    return [group("a", [10, 11, 12], [20, 21, 22], [30], [40, 41]), group("b", [50], [60, 61])]


def test_a_pack_and_its_segments_by_hand() -> None:
    """Stream: 10 11 12 20 21 40 50 60. A branch of one token is never fed."""
    stream = pack(two_groups())
    assert stream.token_T.tolist() == [[10, 11, 12, 20, 21, 40, 50, 60]]
    assert stream.position_T.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1]]
    assert stream.score_S.tolist() == [2, 3, 4, 2, 2, 5, 6, 7]
    assert stream.target_S.tolist() == [20, 21, 22, 30, 40, 41, 60, 61]
    assert [(s.query.tolist(), s.key.tolist(), s.num_prompt) for s in stream.layout.segments] == [
        ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], 0), ([5], [0, 1, 2, 5], 3), ([6, 7], [6, 7], 0),
    ]  # fmt: skip
    cu_q, cu_k, longest_q, longest_k = stream.layout.lengths
    assert (cu_q.tolist(), cu_k.tolist(), longest_q, longest_k) == ([0, 5, 6, 8], [0, 5, 9, 11], 5, 5)
    assert (cu_q.dtype, cu_k.dtype) == (torch.int32, torch.int32)
    assert stream.layout.key_K.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 5, 6, 7]
    assert stream.layout.calls == 0


def test_a_pack_of_ends_by_hand() -> None:
    """Every branch is fed whole, and its last row read."""
    stream = pack(two_groups(), ends=True)
    assert stream.token_T.tolist() == [[10, 11, 12, 20, 21, 22, 30, 40, 41, 50, 60, 61]]
    assert stream.position_T.tolist() == [[0, 1, 2, 3, 4, 5, 3, 3, 4, 0, 1, 2]]
    assert stream.score_S.tolist() == [5, 6, 8, 11]
    assert stream.target_S.tolist() == []
    assert [(s.query.tolist(), s.key.tolist(), s.num_prompt) for s in stream.layout.segments] == [
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], 0), ([6], [0, 1, 2, 6], 3), ([7, 8], [0, 1, 2, 7, 8], 3),
        ([9, 10, 11], [9, 10, 11], 0),
    ]  # fmt: skip


def test_the_routes_of_a_pack_by_hand() -> None:
    """Of the pack above all segments share a call, ordered by keys: [6 7], [0 1 2 5], [0 1 2 3 4]; queries padded to 5
    and keys to 5. The prompt is at home in the last; its copy in the second is a guest."""
    layout = pack(two_groups()).layout
    assert [[len(s.key) for s in chunk] for chunk in layout.chunks] == [[2, 4, 5]]
    query, key = layout.query_route, layout.key_route
    assert query.gather_M.tolist() == [6, 7, 0, 0, 0, 5, 0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert query.padding.tolist() == [2, 3, 4, 6, 7, 8, 9]
    assert query.inverse_T.tolist() == [10, 11, 12, 13, 14, 5, 0, 1]
    assert query.shared_prompt is None
    assert key.gather_M.tolist() == [6, 7, 0, 0, 0, 0, 1, 2, 5, 0, 0, 1, 2, 3, 4]
    assert key.padding.tolist() == [2, 3, 4, 9]
    assert key.inverse_T.tolist() == [10, 11, 12, 13, 14, 8, 0, 1]
    assert key.shared_prompt is not None
    assert [x.tolist() for x in key.shared_prompt] == [[0, 1, 2], [5, 6, 7]]


@pytest.mark.parametrize("window", [None, 1, 2, 3, 5, 9])
def test_a_query_sees_what_came_before_it_within_the_window(window: int | None) -> None:
    layout = pack(two_groups()).layout
    (bucket,) = layout.buckets
    assert not bucket.square
    mask = bucket.mask(window)
    assert mask is not None
    assert mask.shape == (3, 1, 5, 5)
    seen = [[[q - k for k in keys] for q in queries] for queries, keys in (((0, 1), (0, 1)), ((3,), (0, 1, 2, 3)))]
    for i, rows in enumerate(seen):
        for j, gaps in enumerate(rows):
            want = [0 <= gap < (window or 99) for gap in gaps]
            assert mask[i, 0, j, : len(want)].tolist() == want
            assert not mask[i, 0, j, len(want) :].any()  # padding of keys
    assert bucket.mask(window) is mask


@pytest.mark.parametrize(("window", "plain"), [(None, True), (5, True), (6, True), (4, False)])
def test_a_segment_alone_needs_no_mask_but_for_a_shorter_window(window: int | None, plain: bool) -> None:
    (bucket,) = pack(tiny.groups((3, 3))).layout.buckets
    assert bucket.square
    mask = bucket.mask(window)
    assert (mask is None) == plain
    if mask is not None:
        assert mask[0, 0].tolist() == [[0 <= q - k < 4 for k in range(5)] for q in range(5)]


def test_a_further_branch_alone_in_its_bucket_is_not_square() -> None:
    """300 tokens of prompt with a branch of 1 + 40: its keys stand alone, and are not its queries."""
    layout = pack(tiny.groups((300, 1, 41))).layout
    assert [b.square for b in layout.buckets] == [True, False]


def sized(*sizes: int) -> list[Group]:
    return tiny.groups(*[(size - 1, 2) for size in sizes])


@pytest.mark.parametrize(
    ("sizes", "packing", "want"),
    [
        ((5, 5), Packing(tokens=10), [[0, 1]]),
        ((5, 6), Packing(tokens=10), [[0], [1]]),
        ((50, 5), Packing(tokens=10), [[0], [1]]),
        ((3, 3, 3), Packing(tokens=9, groups=2), [[0, 1], [2]]),
        ((3, 3, 3), Packing(tokens=9, groups=3), [[0, 1, 2]]),
        ((2, 8, 7, 3), Packing(tokens=10), [[0, 1], [2, 3]]),
        ((4, 4, 4, 4), Packing(tokens=8), [[0, 1], [2, 3]]),
    ],
)
def test_groups_fill_packs_largest_first(sizes: tuple[int, ...], packing: Packing, want: list[list[int]]) -> None:
    groups = sized(*sizes)
    assert [g.num_tokens for g in groups] == list(sizes)
    assert bins(groups, packing) == want


def test_budgets_have_defaults_and_bounds() -> None:
    assert (Packing().tokens, Packing().groups) == (8192, None)
    assert Packing(tokens=1, groups=1) == Packing(tokens=1, groups=1)
    for wrong, words in (({"tokens": 0}, "tokens must be ≥ 1"), ({"groups": 0}, "groups must be ≥ 1")):
        with pytest.raises(ValueError) as error:
            Packing(**wrong)
        assert str(error.value) == words


@pytest.mark.parametrize(
    ("lengths", "classes"),
    [
        (RowLengths(), {1: (0, 0), 999: (0, 0)}),
        (RowLengths((8,)), {1: (0, 0), 8: (0, 0), 9: (1, 0), 99: (1, 0)}),
        (RowLengths((8, 20)), {8: (0, 0), 9: (1, 0), 20: (1, 0), 21: (2, 0)}),
        (RowLengths(own_from=8), {1: (0, 0), 8: (0, 0), 9: (0, 9), 10: (0, 10)}),
        (EACH_ITS_OWN, {1: (0, 1), 2: (0, 2)}),
    ],
)
def test_the_class_of_a_length(lengths: RowLengths, classes: dict[int, tuple[int, int]]) -> None:
    assert {n: lengths.class_of(n) for n in classes} == classes
    assert lengths.matter == (lengths != RowLengths())


@pytest.mark.parametrize(("ends", "classes"), [(False, [[0, 2], [1]]), (True, [[0], [1, 2]])])
def test_rows_of_one_class_share_a_call(ends: bool, classes: list[list[int]]) -> None:
    """Rows of 5, 8 and 6 tokens, of which the last is fed only to be read: classes up to 5 and beyond."""
    groups = tiny.groups((3, 2, 5), (2, 4))
    calls = RowLengths((5,)).calls(groups, ends=ends)
    assert [places for _, places in calls] == classes
    branches = [b for g in groups for b in g.branches]
    for members, places in calls:
        assert [b.tokens.tolist() for g in members for b in g.branches] == [branches[p].tokens.tolist() for p in places]
        assert {g.name for g in members} <= {"row 0", "row 1"}
    assert [len(members) for members, _ in calls] == ([2, 1] if not ends else [1, 2])


def test_without_classes_there_is_one_call() -> None:
    groups = tiny.groups((3, 2, 5), (2, 4))
    ((members, places),) = RowLengths().calls(groups, ends=False)
    assert places == [0, 1, 2]
    assert [(g.name, len(g.branches)) for g in members] == [("row 0", 2), ("row 1", 1)]


class Config:
    """As much of a config as is read."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({}, RowLengths()),
        ({"rope_parameters": {"rope_type": "default"}}, RowLengths()),
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 8}}, RowLengths((8,))),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 9}, RowLengths((9,))),
        ({"rope_scaling": {"rope_type": "longrope"}}, RowLengths((0,))),
        ({"rope_parameters": {"rope_type": "dynamic"}, "max_position_embeddings": 7}, RowLengths(own_from=7)),
        ({"rope_parameters": {"rope_type": "dynamic"}}, RowLengths(own_from=0)),
        (
            {
                "rope_parameters": {
                    "full": {"rope_type": "longrope", "original_max_position_embeddings": 30},
                    "near": {"rope_type": "longrope", "original_max_position_embeddings": 8},
                    "other": {"rope_type": "dynamic"},
                    "theta": 3.0,
                },
                "max_position_embeddings": 64,
            },
            RowLengths((8, 30), 64),
        ),
    ],
)
def test_classes_are_those_of_the_configs_factors(fields: dict[str, Any], want: RowLengths) -> None:
    assert RowLengths.of(Config(**fields)) == want  # type: ignore[arg-type]  # as much of one as is read


def test_tables_of_factors_and_their_kinds() -> None:
    config = Config(rope_parameters={"a": {"type": "x"}, "b": 1}, rope_scaling=None)
    assert list(rope_tables(config)) == [{"a": {"type": "x"}, "b": 1}, {"type": "x"}]  # type: ignore[arg-type]
    assert [rope_kind(t) for t in ({"rope_type": "a", "type": "b"}, {"type": "b"}, {})] == ["a", "b", None]


def test_dynamic_factors_forget_the_longest_row() -> None:
    model: Any = tr.LlamaForCausalLM(
        tr.LlamaConfig(**{**tiny.DECODER, "max_position_embeddings": 8},
                       rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0})
    )  # fmt: skip
    rotary = model.model.rotary_emb
    first = rotary.inv_freq.clone()
    model(input_ids=torch.arange(20)[None])
    assert not torch.equal(rotary.inv_freq, first)
    restart_rotary(model)
    assert torch.equal(rotary.inv_freq, first)
    assert rotary.max_seq_len_cached == rotary.original_max_seq_len == 8
    assert "inv_freq" not in rotary.state_dict()


class Rotary(nn.Module):
    """Two kinds of layers keep their factors in one module."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rope_type, self.max_seq_len_cached, self.original_max_seq_len = {"near": kind}, 99, 8
        self.near_original_inv_freq: Tensor = torch.ones(2)
        self.register_buffer("near_inv_freq", torch.zeros(2), persistent=False)
        self.register_buffer("far_inv_freq", torch.zeros(2), persistent=False)
        self.register_buffer("other", torch.zeros(2), persistent=False)


@pytest.mark.parametrize("kind", ["dynamic", "default"])
def test_only_dynamic_factors_are_restarted_each_by_its_name(kind: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), Rotary(kind))
    restart_rotary(model)
    rotary: Any = model[1]
    assert rotary.near_inv_freq.tolist() == ([1.0, 1.0] if kind == "dynamic" else [0.0, 0.0])
    assert (rotary.far_inv_freq.tolist(), rotary.other.tolist()) == ([0.0, 0.0], [0.0, 0.0])
    assert getattr(rotary, "near_max_seq_len_cached", None) == (8 if kind == "dynamic" else None)
