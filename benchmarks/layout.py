"""What padding costs and a shared prompt saves, over all rows of real data: `python -m benchmarks.layout --data DIR`.

DIR holds gsm8k/, hh/ and imdb/ as docs/data.md names them. Tokens are those of a byte-level BPE of 16,384 tokens,
trained here on a quarter of the rows, so that no model has to be downloaded. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from benchmarks.byte_level import byte_level
from twofold.data.formats import scan
from twofold.data.packing_stats import Lengths, savings
from twofold.data.tokenize import Encoder, TokenizeSettings
from twofold.records import Record, completion_fields, text_of

VOCABULARY, EVERY = 16_384, 4
FILES = (
    "gsm8k/train.jsonl", "gsm8k/test.jsonl", "gsm8k/example_model_solutions.jsonl", "hh/harmless-base-test.jsonl.gz",
    "imdb/train.parquet", "imdb/test.parquet",
)  # fmt: skip


def texts(records: Sequence[Record]) -> Iterator[str]:
    """Prompt and completions of every fourth record."""
    for record in records[::EVERY]:
        yield from (str(record.prompt), *(text_of(told) for _, told in completion_fields(record)))


def trained(tables: Mapping[str, Sequence[Record]]) -> PreTrainedTokenizerFast:
    """A tokenizer of the text of all tables."""
    every = (text for records in tables.values() for text in texts(records))
    core = byte_level(every, VOCABULARY, ("<|begin|>", "<|end|>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|begin|>", eos_token="<|end|>")


def lengths(record: Record, encoder: Encoder) -> Lengths:
    """The record in tokens; a problem's answer counts as its completion."""
    group = encoder.group(record)
    truth = [] if group.truth is None else [group.truth]
    return Lengths(len(group.prompt), tuple(len(t) for t in (*(b.tokens for b in group.branches), *truth)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layout", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    folder: Path = parser.parse_args().data
    found = {name: scan(str(folder / name)) for name in FILES}
    tokenizer = trained({name: each.table.records for name, each in found.items()})
    stop: int = tokenizer.eos_token_id  # type: ignore[assignment]  # set above
    encoder = Encoder(tokenizer, frozenset({stop}), TokenizeSettings(max_length=1_000_000))
    print("| data | format | rows | usable | tokens | padding | saved by sharing | fewer tokens |")
    print("|---|---|---|---|---|---|---|---|")
    for name, each in found.items():
        cost = savings(lengths(record, encoder) for record in each.table.records)
        if cost is not None:
            counts = f"{each.table.format} | {each.rows:,} | {cost.rows:,} | {cost.together:,}"
            print(f"| {name} | {counts} | {cost.padding:.1%} | {cost.sharing:.1%} | {cost.factor:.2f}× |")


if __name__ == "__main__":
    main()
