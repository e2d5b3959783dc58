"""The reference model and its log-probabilities: from a copy (frozen or moving), the policy without its adapter, or a
cache.

It has the policy's initial weights and is never loaded again by name. It computes with the same forward pass in the
same packs. Another order of summation changes a sequence by 1e-4 nats, enough to activate a strict hinge that should be
0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from twofold.batch import Group
from twofold.disk import make_folder, write
from twofold.errors import RecipeError
from twofold.models.adapters import REFERENCE_ADAPTER, adapter_pairs, copy_adapter
from twofold.models.bema import Bema
from twofold.models.integrity import header
from twofold.models.load import weights_digest
from twofold.models.packing import Packing
from twofold.models.parts import copied
from twofold.models.policy import Policy
from twofold.progress import Progress
from twofold.settings import require, settings
from twofold.world import is_sharded, part_of, settle, world

COLUMN = "ref_logp"
SUM = "sha256"
CACHE_VERSION = 3  # increase it when the results of a forward pass, or the format of the files, change
_PART = 16  # packs per file, so that an interrupted run continues
_WINDOW = 16_384  # groups whose column is held in memory


@settings
class ReferenceSettings:
    """The reference model, and how its log-probabilities of fixed data are computed. Those of samples are always
    computed live."""

    kind: Literal["cached", "live", "moving"] = "cached"
    """cached: compute the log-probabilities once and store them on disk. live: compute them in every step. moving: the
    reference model follows the policy (TR-DPO), also computed in every step."""
    cache: str | None = None
    """Folder of the cache. The default is `reference-cache` in the run folder."""
    alpha: float = 0.6
    """For moving: the policy's share in each update, reference ← alpha·policy + (1 − alpha)·reference. 1 is the hard
    form of TR-DPO. A small alpha in every step is an exponential moving average."""
    sync_every: int = 512
    """For moving: steps between updates."""
    bema: Bema | None = None
    """For moving: a bias-corrected average of the policy's weights instead of alpha (docs/references.md)."""
    fit: Literal["chosen"] | None = None
    """A first stage for a model that was not fine-tuned on such completions: maximum likelihood on the chosen
    completions. Policy and reference model start from its result."""
    fit_epochs: float = 1.0
    """Epochs of that stage."""
    fit_learning_rate: float = 1e-5
    """Learning rate of that stage."""

    def __post_init__(self) -> None:
        require(0 < self.alpha <= 1, "alpha must be in (0, 1]")
        require(self.sync_every >= 1, "sync_every must be ≥ 1")
        require(self.fit_epochs > 0 and self.fit_learning_rate > 0, "fit_epochs and fit_learning_rate must be > 0")
        moved = self.alpha != 0.6 or self.sync_every != 512
        require(self.kind == "moving" or not moved, "alpha and sync_every are settings of kind: moving")
        fitted = self.fit_epochs != 1.0 or self.fit_learning_rate != 1e-5
        require(self.fit is not None or not fitted, "fit_epochs and fit_learning_rate go with fit: chosen")
        require(self.bema is None or self.kind == "moving", "bema is a setting of kind: moving")
        require(self.bema is None or self.alpha == 0.6, "alpha does nothing with bema: leave it out")


class Reference(Protocol):
    """Computes log-probabilities [n] per group and branch, without gradient, on the CPU."""

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]: ...


class LiveReference(Reference, Protocol):
    """A reference that can also generate: inside `activated` the model is the reference."""

    @property
    def copies(self) -> list[Policy]:
        """Models of its own, in addition to the policy."""
        ...

    def activated(self) -> AbstractContextManager[PreTrainedModel]: ...


class FrozenReference:
    """A copy of the policy's current weights."""

    def __init__(self, policy: Policy) -> None:
        if is_sharded(policy):
            remedy = "set world.kind=replicate"
            raise RecipeError("a model in shards has no copy as its reference", where="world.kind", remedy=remedy)
        self.policy = copied(policy).requires_grad_(False)
        self.policy.masters = None

    @property
    def copies(self) -> list[Policy]:
        """Models of its own, in addition to the policy."""
        return [self.policy]

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        return self.policy.logps(groups, packing)

    @contextmanager
    def activated(self) -> Iterator[PreTrainedModel]:
        yield self.policy.model


class AdapterReference:
    """The policy with its adapter off, or with a frozen copy of the user's own adapter."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        known = policy.adapter.peft_config if policy.adapter is not None else {}
        self.adapter = REFERENCE_ADAPTER if REFERENCE_ADAPTER in known else None

    @property
    def copies(self) -> list[Policy]:
        return []

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        with self.policy.as_reference(self.adapter):
            return self.policy.logps(groups, packing)

    @contextmanager
    def activated(self) -> Iterator[PreTrainedModel]:
        with self.policy.as_reference(self.adapter):
            yield self.policy.model


def live_reference(policy: Policy) -> FrozenReference | AdapterReference:
    """The reference of `policy` as it is before the first step."""
    return FrozenReference(policy) if policy.adapter is None else AdapterReference(policy)


class MovingReference:
    """A copy that moves toward the policy every `sync_every` steps: Gorbatovski et al. 2024, "Learn Your Reference
    Model for Real Good Alignment" (TR-DPO), arXiv:2404.09656. The loop saves its state (`training/stateful.py`).

    The reference of an adapter supports only `alpha` 1 (RecipeError otherwise): the mean of two low-rank products is
    not the product of their means.
    """

    name = "moving-reference"

    def __init__(self, policy: Policy, alpha: float, sync_every: int) -> None:
        self.policy, self.alpha, self.sync_every = policy, alpha, sync_every
        if policy.adapter is None:
            made = FrozenReference(policy)
        else:
            if alpha != 1:
                raise RecipeError(
                    "the reference of an adapter moves in one way: it becomes the policy",
                    where="reference.alpha",
                    remedy="set reference.alpha=1, or train without an adapter",
                )
            copy_adapter(policy.adapter)
            made = AdapterReference(policy)
        self.reference: FrozenReference | AdapterReference = made

    @property
    def copies(self) -> list[Policy]:
        return self.reference.copies

    def moves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name → (reference, policy) for each weight that moves. They are looked up at each call: sharding a model
        replaces its parameters, and the old ones would no longer change."""
        if self.policy.adapter is not None:
            settle(self.policy)
            return adapter_pairs(self.policy.adapter)
        theirs = self.reference.copies[0].weights()
        return {name: (theirs[name], mine) for name, mine in self.policy.trainable().items()}

    def logps(self, groups: Sequence[Group], packing: Packing) -> list[list[Tensor]]:
        return self.reference.logps(groups, packing)

    def activated(self) -> AbstractContextManager[PreTrainedModel]:
        return self.reference.activated()

    def tensors(self) -> dict[str, Tensor]:
        return {name: reference.detach() for name, (reference, _) in self.moves().items()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        for name, (reference, _) in self.moves().items():
            reference.copy_(part_of(tensors[name], reference))

    @torch.no_grad()
    def on_step_end(self, steps: int) -> None:
        """Move, if this step is a multiple of `sync_every`."""
        if steps % self.sync_every == 0:
            for reference, policy in self.moves().values():
                move(reference, policy, self.alpha)


def move(reference: Tensor, policy: Tensor, alpha: float) -> None:
    """reference ← alpha·policy + (1 − alpha)·reference, in place; with alpha 1 an exact copy."""
    reference.copy_(policy) if alpha == 1 else reference.lerp_(policy, alpha)


def with_reference(groups: Sequence[Group], logps: Sequence[Sequence[Tensor]]) -> list[Group]:
    """The groups with `ref_logp` on every branch."""
    return with_tokens(groups, COLUMN, logps)


def with_tokens(groups: Sequence[Group], column: str, values: Sequence[Sequence[Tensor]]) -> list[Group]:
    """The groups with a token column of `values` [n], given per group and branch."""
    return [g.with_columns([{column: value} for value in row]) for g, row in zip(groups, values, strict=True)]


def cached_reference(
    policy: Policy, groups: Sequence[Group], packs: Iterable[Sequence[int]], folder: Path, progress: Progress
) -> Sequence[Group]:
    """`groups` with the reference column of the current `policy`, read from `folder` if it was computed before.

    `packs` are indices of groups; every group is in at least one. They should be the packs of training: the other rows
    of a pack change the rounding of each row, and only in equal packs do margins start at exactly 0. For a group in
    several packs, the first counts. With more than `_WINDOW` groups, the column stays on disk until a group is used. A
    file is keyed by weights, tokens, precision, packs and `CACHE_VERSION`, and has a sha256 of its key and values. A
    damaged file is computed again, with a warning.
    """
    make_folder(folder)
    how = fingerprint(policy)
    progress.begin("reference", len(groups))
    held = len(groups) <= _WINDOW
    columns: dict[int, list[Tensor]] = {}
    on_disk = OnDisk(groups)
    turns = iter(packs)
    while part := list(islice(turns, _PART)):
        members = [i for pack in part for i in pack]
        rows = {i: groups[i] for i in members}
        lengths = [sum(len(b.tokens) for b in rows[i].branches) for i in members]
        path = folder / f"{_key(f'{how} {[len(pack) for pack in part]}', [rows[i] for i in members])}.safetensors"
        flat = _load(path, sum(lengths))
        if world().any(flat is None) or flat is None:
            if path.exists() and flat is None:
                progress.warn(f"{path}: damaged; the reference of these rows is computed again")
            values = policy.per_pack([[rows[i] for i in pack] for pack in part])
            flat = torch.cat([value for pack in values for row in pack for value in row])
            if world().first:
                _save(flat, path)
        before = len(columns) if held else on_disk.num_known
        if held:
            for i, piece in zip(members, flat.split(lengths), strict=True):
                columns.setdefault(i, list(piece.split([len(b.tokens) for b in rows[i].branches])))
        else:
            on_disk.add(path, members, lengths)
        progress.advance("reference", (len(columns) if held else on_disk.num_known) - before)
    progress.end("reference")
    return with_reference(groups, [columns[i] for i in range(len(groups))]) if held else on_disk


class OnDisk(Sequence[Group]):
    """Groups whose reference column is read from the files of a cache when they are used."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups, self._paths = groups, list[Path]()
        self._place = np.full((len(groups), 2), -1, np.int64)
        self.num_known = 0

    def add(self, path: Path, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Register the file at `path`: it holds the columns of the groups `rows`, with these `lengths`, in order. A
        group keeps its first place."""
        begin = 0
        for row, length in zip(rows, lengths, strict=True):
            if self._place[row, 0] < 0:
                self._place[row] = len(self._paths), begin
                self.num_known += 1
            begin += length
        self._paths.append(path)

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...

    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...

    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        group = self._groups[index]
        file, begin = self._place[index].tolist()
        lengths = [len(b.tokens) for b in group.branches]
        with safe_open(self._paths[file], framework="pt") as held:
            flat: Tensor = held.get_slice(COLUMN)[begin : begin + sum(lengths)]
        return group.with_columns([{COLUMN: value} for value in flat.split(lengths)])


def fingerprint(policy: Policy) -> str:
    """sha256 over the weights, names, precision and layout that the log-probabilities depend on."""
    stream = "" if policy.casts is None else f" {policy.casts.dtype}"
    return weights_digest(policy.model, f"{CACHE_VERSION} {policy.autocast} {policy.shared}{stream}")


def _key(how: str, groups: Sequence[Group]) -> str:
    digest = hashlib.sha256(how.encode())
    for group in groups:
        for tokens in (group.prompt, *(b.tokens for b in group.branches)):
            digest.update(len(tokens).to_bytes(8, "little"))
            digest.update(tokens.numpy().tobytes())
        if asides := [b.asides_as_lists() for b in group.branches if b.asides]:
            digest.update(repr(asides).encode())
    return digest.hexdigest()


def _load(path: Path, length: int) -> Tensor | None:
    """The values of a cached file; None if there is no such file, or if a byte of it has changed."""
    try:
        head = header(path)
        if head is None:
            return None
        flat = load_file(path)[COLUMN]
        known = head["__metadata__"][SUM]
    except (OSError, SafetensorError, KeyError, TypeError):
        return None
    return flat if len(flat) == length and known == _sum(path.stem, flat) else None


def _save(flat: Tensor, path: Path) -> None:
    write(path, save({COLUMN: flat}, {SUM: _sum(path.stem, flat)}))


def _sum(key: str, flat: Tensor) -> str:
    digest = hashlib.sha256(f"{key} {flat.dtype} {tuple(flat.shape)}".encode())
    digest.update(flat.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
