"""Which rows may share a call. Some layers select their rotary factors by the longest row of a call (longrope, dynamic
NTK). There a long row would change the results of a short one, so each call holds rows of one class of lengths.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from twofold.batch import Branch, Group
from twofold.errors import DataError

Call = tuple[list[Group], list[int]]
"""Groups of one class, and the indices of their branches among all branches."""


@dataclass(frozen=True)
class RowLengths:
    """Classes of row lengths, in tokens: up to the first switch, up to the second, and so on. Above `own_from` every
    length is a class of its own."""

    switches: tuple[int, ...] = ()
    own_from: int | None = None
    apart: bool = False
    """Whether prompts and branches are separate rows, so that both lengths count."""

    @classmethod
    def of(cls, config: PreTrainedConfig) -> RowLengths:
        """The classes for the rotary factors in `config`."""
        switches: set[int] = set()
        own_from: list[int] = []
        for table in rope_tables(config):
            kind = rope_kind(table)
            if kind == "longrope":
                first = table.get("original_max_position_embeddings")
                switches.add(first or getattr(config, "original_max_position_embeddings", 0))
            elif kind == "dynamic":
                own_from.append(getattr(config, "max_position_embeddings", 0))
        return cls(tuple(sorted(switches)), min(own_from, default=None))

    @property
    def matter(self) -> bool:
        """Whether there is more than one class."""
        return bool(self.switches) or self.own_from is not None

    def class_of(self, length: int) -> tuple[int, int]:
        """The class of rows with `length` tokens."""
        own = length if self.own_from is not None and length > self.own_from else 0
        return bisect_left(self.switches, length), own

    def calls(self, groups: Sequence[Group], *, ends: bool) -> list[Call]:
        """`groups` by class; a group with branches of several classes is split. The last token of a branch counts only
        with `ends`."""
        found: dict[tuple[tuple[int, int], ...], Call] = {}
        place = 0
        for group in groups:
            classes = [self._classes(group, branch, ends) for branch in group.branches]
            for kind in dict.fromkeys(classes):
                members, places = found.setdefault(kind, ([], []))
                mine = [i for i, c in enumerate(classes) if c == kind]
                members.append(replace(group, branches=tuple(group.branches[i] for i in mine)))
                places.extend(place + i for i in mine)
            place += len(classes)
        return list(found.values())

    def _classes(self, group: Group, branch: Branch, ends: bool) -> tuple[tuple[int, int], ...]:
        """Of a branch's rows; raises DataError where they are of several."""
        prompt, lengths = len(group.prompt), [len(s.tokens) - (not ends) for s in branch.strands(ends=ends)]
        if self.apart:
            return self.class_of(prompt), self.class_of(lengths[0])
        classes = {self.class_of(prompt + length) for length in lengths}
        if len(classes) > 1:
            what = "its turns are rows of several lengths, which this model's rotary factors treat differently"
            raise DataError(what, where=group.name, remedy="leave the row out, or choose another model")
        return (classes.pop(),)


EACH_ITS_OWN = RowLengths(own_from=0)
"""Only rows of equal length share a call, so that nothing is padded."""


def rope_tables(config: PreTrainedConfig) -> Iterator[Any]:
    """The rotary settings of a config; some have one table for each kind of layer."""
    pending: list[Any] = [getattr(config, name, None) for name in ("rope_parameters", "rope_scaling")]
    while pending:
        table = pending.pop()
        if isinstance(table, Mapping):
            yield table
            pending.extend(table.values())  # pyright: ignore[reportUnknownArgumentType]  # looked at above


def rope_kind(table: Mapping[str, Any]) -> str | None:
    """The kind of a table of rotary settings."""
    return table.get("rope_type", table.get("type"))


def restart_rotary(model: nn.Module) -> None:
    """Reset dynamic factors, which depend on the longest row so far."""
    for module in model.modules():
        if not hasattr(module, "max_seq_len_cached") or "dynamic" not in str(getattr(module, "rope_type", "")):
            continue
        for name, factors in list(module.named_buffers(recurse=False)):
            kind = name.removesuffix("inv_freq")
            if kind != name and (first := getattr(module, f"{kind}original_inv_freq", None)) is not None:
                module.register_buffer(name, first.clone().to(factors.device), persistent=False)
                setattr(module, f"{kind}max_seq_len_cached", module.original_max_seq_len)
