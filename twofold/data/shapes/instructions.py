"""Instructions or questions under a key of their own. The instruction is a user turn, so the prompt is a chat.

Alpaca and LLaMA-Factory (github.com/hiyouga/LLaMA-Factory, data/README.md): `instruction`, `input`, `output`,
`history`, `chosen` / `rejected`, `kto_tag`. Argilla's and Intel's pairs with axolotl's names (docs/rlhf.qmd:
chatml.argilla, intel, icr). ms-swift's query and response (Custom-dataset.md).
"""

from __future__ import annotations

from functools import partial

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Demonstration, Labelled, Pair

AROUND = ("system", "history")
Questions = tuple[str, ...]


def _pair(row: Fields, asked: Questions, chosen: str, rejected: str) -> Pair:
    prompt, (better, worse) = row.answers(row.user(*asked), asked[0], chosen, rejected)
    return Pair(prompt, better, worse, row.source)


def _demonstration(row: Fields, asked: Questions, told: str) -> Demonstration:
    prompt, (completion,) = row.answers(row.user(*asked), asked[0], told)
    return Demonstration(prompt, completion, row.source)


def _labelled(row: Fields) -> Labelled:
    shown = _demonstration(row, ALPACA, "output")
    desirable, probability = row.label("kto_tag")
    return Labelled(shown.prompt, shown.completion, desirable, row.source, probability)


def _pairs(name: str, asked: Questions, chosen: str = "chosen", rejected: str = "rejected") -> Shape:
    parse = partial(_pair, asked=asked, chosen=chosen, rejected=rejected)
    return Shape(name, (asked[0], chosen, rejected), parse, (*asked[1:], *AROUND))


def _demonstrations(name: str, asked: Questions, told: str, beside: tuple[str, ...] = ()) -> Shape:
    parse = partial(_demonstration, asked=asked, told=told)
    return Shape(name, (asked[0], told), parse, (*asked[1:], *AROUND), beside=lambda _: beside)


ALPACA = ("instruction", "input")
PAIRS = (
    _pairs("instruction + chosen + rejected (alpaca)", ALPACA),
    _pairs(
        "instruction + chosen_response + rejected_response (argilla)", ALPACA, "chosen_response", "rejected_response"
    ),
    _pairs("question + chosen + rejected (intel)", ("question",)),
    _pairs("query + response + rejected_response", ("query",), "response", "rejected_response"),
    _pairs("input + chosen + rejected", ("input",)),
)
LABELLED = (
    Shape(
        "instruction + output + kto_tag (alpaca)",
        ("instruction", "output", "kto_tag"),
        _labelled,
        ("input", *AROUND),
    ),
)
DEMONSTRATIONS = (
    _demonstrations("instruction + output (alpaca)", ALPACA, "output", ("text",)),  # all of it, put together
    _demonstrations("query + response", ("query",), "response"),
)
