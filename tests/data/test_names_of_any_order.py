"""Names are compared by their letters: names before and behind those that count, and names made at run time; and sizes
beyond small numbers."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from twofold.data import keys, parquet_pages, unpacking
from twofold.data.arrow_sizes import BUDGET, at_once
from twofold.data.chat import as_request, parse, rendering, tools_message
from twofold.data.csv import rows as csv_rows
from twofold.data.encode import encode
from twofold.data.examples import kinds
from twofold.data.fault_store import FaultStore, of_severity
from twofold.data.hidden_keys import hidden
from twofold.data.issues import Issue
from twofold.data.kinds import RowNeeds, rows_of_kind
from twofold.data.markup import turn_markup
from twofold.data.message_keys import Malformed, further, mark, refuse_lost_answers, tool_calls
from twofold.data.near import NearDuplicates, NearPrompts
from twofold.data.parquet_pages import plan
from twofold.data.reading import Reading
from twofold.data.repairs import Naming, repaired
from twofold.data.row_faults import RowFaults
from twofold.data.settings import DataSettings
from twofold.data.shapes import SHAPES
from twofold.data.shapes.fields import Fields
from twofold.data.supervision import supervised
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.data.turns import Turns, keep_choice
from twofold.errors import DataError, RecipeError
from twofold.records import Demonstration, Message, Pair, Ranking, Request, Source

AT = Source("f", 4)
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
ASKING = "{% if add_generation_prompt %}[assistant]{% endif %}"
ASK = Message("user", "q")


def new(text: str) -> Any:
    """The same letters as another object."""
    return "".join(list(text))


def call(name: str = "f", **more: Any) -> dict[str, Any]:
    return {**more, "type": "function", "function": {"name": name, "arguments": {}}}


def test_a_name_counts_as_called_only_of_a_tools_turn(tokenizer: Any) -> None:
    """Not a user's of the same name, nor an assistant's, nor another key that is spelled so."""
    shown = "{% for c in m.tool_calls or [] %}<{{ c.function.name }}>{% endfor %}"
    made = tokenizer(TURNS.replace("{{ m.content }}", "{{ m.content }}" + shown))
    calling = Message("assistant", "", json.dumps({"tool_calls": [call("f", id="a"), call("g", id="b")]}))
    named, answer = json.dumps({"name": "f"}), json.dumps({"tool_call_id": "f"})
    assert hidden(made, (ASK, calling, Message(new("tool"), "1", named))) is None
    for turn, key in (
        (Message("user", "m", named), "name"), (Message("assistant", "m", named), "name"),
        (Message("tool", "1", answer), "tool_call_id"), (Message("assistant", "m", '{"tool_plan": "p"}'), "tool_plan"),
    ):  # fmt: skip
        lost = hidden(made, (ASK, calling, turn))
        assert lost is not None
        assert lost.key == key


def test_the_remedy_of_each_hidden_key_is_its_own(tokenizer: Any) -> None:
    made = tokenizer(TURNS)
    for more, key in (
        ({"tool_calls": [call()]}, "tool_calls"),
        ({"tool_plan": "p"}, "tool_plan"),
        ({"name": "n"}, "name"),
    ):
        lost = hidden(made, (ASK, Message("assistant", "a", json.dumps(more))))
        assert lost is not None
        assert lost.remedy == (
            f"drop it by data.ignore=[{key}] (--ignore {key}), or choose a model whose template shows it"
        )


@pytest.mark.parametrize("role", ["assistant", "developer", "system", "user"])
def test_only_tools_answer_calls(role: str) -> None:
    """And only calls of functions are read; a call of an agent or of a tool is none."""
    with pytest.raises(Malformed) as error:
        further({"tool_call_id": "x"}, role, "message 2")
    assert error.value.reason == f"message 2 is the {role}'s turn and answers a call by `tool_call_id`"
    assert further({new("tool_call_id"): "x"}, new("tool"), "message 2") == '{"tool_call_id": "x"}'
    lost = json.dumps({"tool_call_id": "b"})
    refuse_lost_answers([("assistant", json.dumps({"tool_calls": [{"id": "a"}]})), (role, lost)])
    for kind in ("agent", "tool"):
        with pytest.raises(Malformed, match="is of another type than `function`"):
            tool_calls([{"type": kind, "function": {"name": "f"}}], "message 2")
    assert tool_calls([{"type": new("function"), "function": {"name": "f"}}], "p")[0]["type"] == "function"


def test_only_an_assistant_is_trained_on_reasons_and_calls() -> None:
    for role in ("developer", "system", "tool", "user"):
        for work in (lambda r=role: mark({"train": 1}, r, "p"), lambda r=role: further({"thinking": "t"}, r, "p"),
                     lambda r=role: further({"tool_calls": [call()]}, r, "p")):  # fmt: skip
            with pytest.raises(Malformed):
                work()
    assert mark({"train": 1}, new("assistant"), "p") is True
    assert further({"thinking": "t"}, new("assistant"), "p") == '{"thinking": "t"}'
    assert json.loads(further({"tool_calls": [call()]}, new("assistant"), "p")) == {"tool_calls": [call()]}


@pytest.mark.parametrize("key", ["a", "prompt", "tool", "tools_of_mine", "zoo"])
def test_ignored_keys_are_left_out_of_everything_but_tools(key: str) -> None:
    inner = {"name": 1, "x": None, "y": 2}
    assert keys.without({key: inner}, ("name",)) == {key: {"y": 2}}
    assert keys.without({new("tools"): [inner]}, ("name",)) == {"tools": [{"name": 1, "y": 2}]}


@pytest.mark.parametrize("role", ["assistant", "developer", "tool", "user"])
def test_only_a_system_turn_is_a_repeated_one(role: str) -> None:
    turns = [{"role": role, "content": "x"}] * 2
    assert repaired({"m": turns}, Naming({}), []) == ({"m": turns}, {})
    system = {"role": new("system"), "content": "x"}
    assert repaired({"m": [system, system], new("tools"): [system, system]}, Naming({}), [])[0] == {
        "m": [system], "tools": [system, system],
    }  # fmt: skip


def test_a_system_message_comes_before_any_turn_but_its_own() -> None:
    for role in ("assistant", "developer", "tool", "user"):
        row = {"system": "s", "m": [{"role": role, "content": "x"}, {"role": "assistant", "content": "a"}]}
        fields = Fields(row, AT)
        conversation = fields.conversation("m")
        assert conversation is not None
        assert conversation[0][0] == Message("system", "s")
        assert fields.faults == []


def test_numbers_that_are_not_read_are_named_by_their_own_remedy() -> None:
    """A setting that reads margins is no remedy for a probability, nor for a weight."""
    for name, kind in (("probability", "demonstrations"), ("weight", "prompts")):
        record = Pair("p", "a", "b", AT, **{name: 0.5})  # type: ignore[arg-type]  # one of its numbers
        with pytest.raises(DataError) as error:
            rows_of_kind([record], RowNeeds(new(kind), (), "X", "offset"))
        assert error.value.remedy == f"let it go: data.ignore=[{name}]"
    margin = Pair("p", "a", "b", AT, margin=1.0)
    for kind in ("pairs", "rankings"):
        assert len(rows_of_kind([margin], RowNeeds(new(kind), ("margin",), "X"))) == 1
    with pytest.raises(DataError):
        rows_of_kind([margin], RowNeeds(new("prompts"), ("margin",), "X"))


@pytest.mark.parametrize("truncation", ["refuse", "drop", "cut_prompt", "cut_completion"])
def test_a_setting_is_what_it_spells(tokenizer: Any, truncation: str) -> None:
    made = tokenizer(None)
    how = TokenizeSettings(max_length=5, truncation=new(truncation))
    encoder = Encoder(made, frozenset({made.eos_token_id}), how)
    fitted, fault = encoder.inspect(Demonstration("abc", "def", AT))
    assert fitted is not None
    assert fault is not None
    sizes = None if fitted.group is None else (len(fitted.group.prompt), len(fitted.group.branches[0].tokens))
    assert sizes == {"cut_prompt": (1, 4), "cut_completion": (3, 2)}.get(truncation)
    assert fault.severity == ("error" if truncation == "refuse" else "warning")
    if truncation == "refuse":
        with pytest.raises(DataError, match="has 7 tokens, max_length is 5"):
            encode([Demonstration("abc", "def", AT)], encoder)


def test_choices_of_prompts_are_what_they_spell(tokenizer: Any) -> None:
    made = tokenizer(TURNS + ASKING)
    assert [Turns(made, new(c)).put("q").form for c in ("auto", "text", "chat")] == ["turn", "text", "turn"]
    assert Turns(made, new("auto")).put("[INST]").guess != ""
    assert Turns(made, new("chat")).put("[INST]").guess == ""
    guess = "prompts are what both texts begin with, up to a word, and are put as a user's turn"
    assert Turns(made, new("auto")).of_format(new("chosen + rejected (shared beginning)")) == guess
    for other in ("Anthropic HH (raw turns)", "chosen + rejected (shared prompt)", "text", "chosen"):
        assert Turns(made).of_format(other) == ""
    with pytest.raises(RecipeError):
        Turns(tokenizer(None), new("chat"))
    keep_choice(made, new("auto"))
    assert "twofold_chat" not in made.init_kwargs
    keep_choice(made, new("text"))
    assert made.init_kwargs["twofold_chat"] == "text"
    assert Turns(made, new("auto")).put("q").form == "text"


def test_roles_are_what_they_spell(tokenizer: Any) -> None:
    turns = (Message(new("user"), "a"), Message(new("assistant"), "b"), Message(new("user"), "c"))
    assert len(list(supervised(Demonstration(turns, "d", AT), new("all")))) == 2
    assert len(list(supervised(Demonstration(turns, "d", AT), new("last")))) == 1
    tools = Message(new("tools"), tools_message([call()]).content)
    assert as_request((tools, *turns))[1] == {"tools": [call()]}
    made = tokenizer("{{ tools | length if tools else 0 }}{% for m in messages %}[{{ m.role }}]{% endfor %}")
    assert rendering(made, (tools, *turns)) == "1[user][assistant][user]"
    (part,) = parse([{"role": "user", "content": [{"type": new("text"), "text": "t"}]}])
    assert part.content == "t"
    for type_ in ("a", "texts", "z"):
        with pytest.raises(Malformed, match="holds a part of the type"):
            parse([{"role": "user", "content": [{"type": type_, "text": "t"}]}])
    record = Pair("<|im_end|>", "<|im_end|>", "<|im_end|>", AT)
    read = ((new("prompt"), "<|im_end|>"), ("chosen", "<|im_end|>"), ("rejected", "<|im_end|>"), ("a", "<|im_end|>"))
    assert [fault.field for fault in turn_markup(record, read)] == ["chosen", "rejected", "a"]


def issue(row: int, check: str, severity: str = "error", file: str = "f") -> Issue:
    return Issue(file, row, "", "why", "what", new(severity), new(check))


def test_severities_and_files_are_what_they_spell(tmp_path: Any) -> None:
    store = FaultStore(new("f"))
    store.add([issue(1, "a"), issue(2, "b", "warning"), issue(3, "a", file="e"), issue(4, "a", file="g")])
    faults = store.in_order()
    assert [fault.row for fault in faults] == [1, 2, 3, 4]
    assert ([f.row for f in of_severity(faults, new("error"))], store.spoiled()) == ([1, 3, 4], 1)
    assert len(RowFaults.of([issue(1, "BOM"), issue(2, "BON"), issue(3, "BOL"), issue(0, "x")])) == 2
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "q"}\n' * 3)
    listed = [issue(1, "a", file=str(path)), issue(2, "b", "warning", str(path)), issue(1, "c", file="z")]
    shown = kinds(listed, Reading(str(path)), 2)
    assert [(k.name, [len(texts) for _, texts in k.examples]) for k in shown] == [("a", [1]), ("c", [0]), ("b", [1])]


def parsed(name: str, **row: Any) -> tuple[Any, list[str]]:
    fields = Fields(row, AT)
    record = next(shape for shape in SHAPES if shape.name == name).parse(fields)
    return record, [fault.reason for fault in fields.faults]


MANY = 300
"""More than the numbers of which Python has one object each."""


def test_sizes_of_many_are_compared_by_value() -> None:
    texts = [f"t{n}" for n in range(MANY)]
    ranking, faults = parsed("prompt + completions (best first)", prompt="p", completions=texts,
                             scores=[float(-n) for n in range(MANY)])  # fmt: skip
    assert (len(ranking.completions), faults) == (MANY, [])
    steps, faults = parsed("prompt + completions (steps) + labels", prompt="p", completions=texts, labels=[1] * MANY)
    assert (len(steps.steps), faults) == (MANY, [])
    arena = {"prompt": json.dumps(texts), "response_a": json.dumps(texts), "response_b": json.dumps([*texts[:-1], "x"])}
    pair, faults = parsed("prompt + response_a + response_b (LMArena)", **arena, winner_model_a=1, winner_model_b=0,
                          winner_tie=0)  # fmt: skip
    assert (pair.rejected, faults) == ("x", [])
    _, faults = parsed("prompt + instruction_id_list (IFEval)", prompt="p", instruction_id_list=texts,
                       kwargs=[{}] * MANY)  # fmt: skip
    assert faults == []
    _, faults = parsed("question + mc1_targets + mc2_targets (TruthfulQA)", question="q", mc1_targets={"a": 1},
                       mc2_targets={"choices": texts, "labels": [1] * MANY})  # fmt: skip
    assert faults == []
    header = ",".join(texts).encode()
    assert list(csv_rows(io.BytesIO(header + b"\n" + header + b"\n"), "f", 10_000)) == [
        (2, {text: text for text in texts})
    ]
    assert len(DataSettings(train=tuple(texts)).sources) == MANY
    errors = RowFaults.of([issue(n, "a") for n in range(1, MANY + 1)])
    assert (len(errors), errors.counts()) == (MANY, {"a": MANY})


def test_runs_behind_the_first_are_filled_too() -> None:
    half = BUDGET / 2
    for sizes, runs in (
        ([BUDGET, half, half, 1.0], [(0, 1), (1, 3), (3, 4)]), ([BUDGET, half, half + 1], [(0, 1), (1, 2), (2, 3)]),
    ):  # fmt: skip
        assert [(run.start, run.stop) for run in at_once(np.array(sizes), 1 << 40)] == runs


def test_a_plan_at_its_bounds(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 numbers of 8 bytes with the head of a page fit 12 times into 100 bytes; 8,000 bytes may be 1,000 values."""
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"

    def planned(table: Any, budget: int) -> tuple[int, list[str]]:
        monkeypatch.setattr(parquet_pages, "BUDGET", budget)
        pq.write_table(table, path, use_dictionary=False, compression="none")
        with pq.ParquetFile(path) as file:
            return plan(file, path, unpacking.Allowance(path, 1))

    assert planned(pa.table({"a": list(range(300))}), 100) == (12, [])
    assert planned(pa.table({"a": ["x" * 600]}), 1000) == (1, [])
    monkeypatch.setattr(unpacking, "ALWAYS", 8000)
    assert planned(pa.table({"a": np.zeros(1000, np.int8)}), 1000)[1] == []
    with pytest.raises(unpacking.UnpackedError):
        planned(pa.table({"a": np.zeros(1001, np.int8)}), 1000)


def test_what_has_no_words_is_like_nothing() -> None:
    pytest.importorskip("datasketch")
    rows, prompts = NearDuplicates(0.5), NearPrompts(0.5)
    for number, prompt in enumerate(("", " ", "?", "!"), 1):
        rows.see(Request(prompt, Source("f", number)), {})
        prompts.see(Request(prompt, Source("f", number)), {})
    assert (len(rows._rows), len(prompts._rows), list(rows.faults("f")), list(prompts.faults("f"))) == (0, 0, [], [])
    one, other = ("a b c", "d e f"), ("d e f", "a b c")
    for number, (prompt, texts) in enumerate((("p q r", one), ("p q r", other), ("p q r!", one)), 1):
        rows.see(Ranking(prompt, texts, Source("f", number)), {})
    assert [(f.row, f.reason[:20]) for f in rows.faults("f")] == [(3, "nearly repeats row 1")]
