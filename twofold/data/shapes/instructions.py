"""An instruction or a question under a name of its own: what a user says, so that the prompt is a chat.

Alpaca and LLaMA-Factory (github.com/hiyouga/LLaMA-Factory, data/README.md): `instruction`, `input`, `output`,
`history`, `chosen` / `rejected`, `kto_tag`. Argilla's and Intel's pairs as axolotl names them (docs/rlhf.qmd:
chatml.argilla, intel, icr). ms-swift's query and response (Custom-dataset.md).
"""

from __future__ import annotations

from collections.abc import Callable

from twofold.data.shapes.fields import Fields
from twofold.data.shapes.shape import Shape
from twofold.records import Demonstration, Labelled, Pair

AROUND = ("system", "history")
Questions = tuple[str, ...]


def _pair(asked: Questions, chosen: str, rejected: str) -> Callable[[Fields], Pair]:
    def parse(row: Fields) -> Pair:
        prompt, (better, worse) = row.answers(row.user(*asked), asked[0], chosen, rejected)
        return Pair(prompt, better, worse, row.source)

    return parse


def _demonstration(asked: Questions, told: str) -> Callable[[Fields], Demonstration]:
    def parse(row: Fields) -> Demonstration:
        prompt, (completion,) = row.answers(row.user(*asked), asked[0], told)
        return Demonstration(prompt, completion, row.source)

    return parse


def _labelled(asked: Questions, told: str, label: str) -> Callable[[Fields], Labelled]:
    def parse(row: Fields) -> Labelled:
        prompt, (completion,) = row.answers(row.user(*asked), asked[0], told)
        return Labelled(prompt, completion, row.flag(label), row.source)

    return parse


def _pairs(name: str, asked: Questions, chosen: str = "chosen", rejected: str = "rejected") -> Shape:
    return Shape(name, (asked[0], chosen, rejected), _pair(asked, chosen, rejected), (*asked[1:], *AROUND))


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
        _labelled(ALPACA, "output", "kto_tag"),
        ("input", *AROUND),
    ),
)
DEMONSTRATIONS = (
    Shape(
        "instruction + output (alpaca)", ("instruction", "output"), _demonstration(ALPACA, "output"), ("input", *AROUND)
    ),
    Shape("query + response", ("query", "response"), _demonstration(("query",), "response"), AROUND),
)
