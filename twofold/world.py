"""The processes of a run: how work is split, and what all of them must agree on. For a single process it costs nothing.

Every process computes the same round from (seed, step). Packs and prompts are split among the processes. The results
are summed or collected, so that all processes continue with equal numbers. Messages between them are tensors and JSON.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from twofold.errors import RecipeError, TwofoldError
from twofold.hosts import ARRIVAL, attempt, await_all, await_leaving, ended_at_once, give_up_after, name_interface
from twofold.settings import require, settings

T = TypeVar("T")
Kind = Literal["replicate", "shard", "hybrid"]
_PATIENCE = timedelta(hours=4)  # for a process that samples, queries a server or writes while the others wait
SHARDS = "twofold_shards"
"""The attribute of a sharded model's root with its settings."""
_BUCKET = 32 * 2**20  # values of gradients that are sent together
_FSDP = "fsdp"  # by this name of a mesh's dimension PEFT knows shards from tensor parallelism


@settings
class WorldSettings:
    """How several processes (torchrun, `--processes`) share a model. It has no effect on a single process."""

    kind: Literal["auto", "replicate", "shard", "hybrid"] = "auto"
    """replicate: each process has the whole model, and gradients are summed once per step. shard: each process has its
    part of every weight, gradient and moment (FSDP2). hybrid: shards within a host, copies across hosts. auto:
    replicate if the model fits into memory, by the estimate that --dry-run shows, else shard."""
    reduce: Literal["auto", "step", "pack"] = "auto"
    """For shards: when gradients are summed over processes. step: once per step; until then each process stores the
    gradients of all weights. pack: after each pack (between hosts once). auto: step if that fits into memory."""
    reshard_after_forward: bool = True
    """For shards: whether to free a layer's weights after its forward pass and gather them again for the backward
    pass. false halves the communication, and each process stores all weights during a pack."""
    prefetch: int = 1
    """For shards: number of layers whose weights are gathered in advance while one computes."""
    offload: bool = False
    """For shards on GPUs: keep weights, gradients and moments in CPU memory, and compute the update there."""

    timeout: float = 60.0
    """Seconds that another host may be unreachable before the run stops; it can be resumed. A host that responds may
    take any time."""

    def __post_init__(self) -> None:
        require(self.timeout >= 5, "timeout must be at least 5 seconds")
        require(self.prefetch >= 0, "prefetch must be ≥ 0")
        require(
            not (self.offload and self.kind == "replicate"), "offload is of shards: set kind to auto, shard or hybrid"
        )


@dataclass(frozen=True)
class Turn:
    """The pack at `place`, which one process computes while the others compute theirs. A turn that is not `real` is
    padding, so that all processes make the same number of calls. Its results do not count."""

    place: int
    real: bool = True


@dataclass(frozen=True)
class World:
    """This process among all. `local_size` is the number of processes on its host. Another host is lost after `timeout`
    seconds without a response."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    timeout: float = 60.0
    group: Any = field(default=None, compare=False)
    """The process group for communication; torch's default if None."""

    @property
    def several_hosts(self) -> bool:
        return self.size > self.local_size

    def apart(self) -> World:
        """The same processes with separate connections, for a second thread. All processes must call it."""
        if self.size == 1:
            return self
        lines = dist.new_group(backend="gloo", timeout=_PATIENCE)
        _watch()
        return replace(self, group=lines)

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def deal(self, costs: Sequence[int], *, even: bool = False) -> list[Turn]:
        """The turns of this process; `costs` are the tokens of each piece of work. In every turn the processes have
        work of similar cost, and the largest goes to the process that has done least. `even` pads the last turn."""
        if self.size == 1:
            return [Turn(place) for place in range(len(costs))]
        order = sorted(range(len(costs)), key=lambda place: (-costs[place], place))
        done, mine = [0] * self.size, list[Turn]()
        for at in range(0, len(order), self.size):
            row = order[at : at + self.size]
            seats = sorted(range(self.size), key=lambda rank: (done[rank], rank))
            for rank, place in zip(seats, row, strict=False):
                done[rank] += costs[place]
            seat = seats.index(self.rank)
            if seat < len(row):
                mine.append(Turn(row[seat]))
            elif even:
                mine.append(Turn(row[-1], real=False))
        return mine

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank; JSON."""
        if self.size == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode() or b" "), dtype=torch.uint8)
        length = torch.zeros(self.size, dtype=torch.int64)
        length[self.rank] = len(data)
        dist.all_reduce(length, group=self.group)
        padded = torch.full((int(length.max()),), ord(" "), dtype=torch.uint8)
        padded[: len(data)] = data
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        return [json.loads(bytes(part.numpy())) for part in parts]

    def any(self, flag: bool) -> bool:
        """Whether it is true on any process."""
        return flag if self.size == 1 else any(self.gather(bool(flag)))

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gather(0)

    def once(self, make: Callable[[], T]) -> T:
        """The first process's result, on all of them; JSON. Its TwofoldError is also raised on all of them."""
        if self.size == 1:
            return make()
        made: Any = None
        with self.agreed():
            made = make() if self.first else None
        return self.gather(made)[0]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """If a process raises a TwofoldError inside, every process raises it at the end: that of the lowest rank."""
        if self.size == 1:
            yield
            return
        fault: TwofoldError | None = None
        try:
            yield
        except TwofoldError as error:
            fault = error
        message = None if fault is None else [type(fault).__name__, fault.what, fault.where, fault.remedy]
        known = next((each for each in self.gather(message) if each is not None), None)
        if known is not None:
            raise _raised(known) from fault

    def summed(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The sum over all processes by name, added in the order of their ranks."""
        every = self.gather(dict(figures))
        total: dict[str, float] = {}
        for part in every:
            for name, value in part.items():
                total[name] = total[name] + value if name in total else value
        return total

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes; `value` itself is overwritten."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def pooled(self, parts: Mapping[int, Tensor], lengths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        """All parts [n] of a whole on every process, on the CPU. Each part was made by one process."""
        if self.size == 1:
            return [parts[place] for place in range(len(lengths))]
        pieces = list(torch.zeros(sum(lengths), dtype=dtype).split(list(lengths)))
        for place, part in parts.items():
            pieces[place].copy_(part)
        whole = self.total(torch.cat(pieces) if pieces else torch.zeros(0, dtype=dtype))
        return list(whole.split(list(lengths)))

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the sum of all gradients. If no process has a gradient, it stays None."""
        if self.size == 1:
            return
        has = torch.tensor([int(p.grad is not None) for p in parameters])
        moved = [p for p, count in zip(parameters, self.total(has).tolist(), strict=True) if count]
        for p in moved:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for bucket in _buckets([p.grad for p in moved if p.grad is not None]):
            flat = self.total(torch.cat([grad.flatten() for grad in bucket]))
            for grad, piece in zip(bucket, flat.split([grad.numel() for grad in bucket]), strict=True):
                grad.copy_(piece.view_as(grad))


def world() -> World:
    """The processes that this one has joined; only itself until `join`."""
    return _here


_here = World()
_store: Any = None  # shared by all processes of this attempt


def launched() -> World:
    """This process among those that a launcher has started, from its environment. It joins nothing."""
    rank, size = (int(os.environ.get(name, default)) for name, default in (("RANK", "-1"), ("WORLD_SIZE", "1")))
    size = size if rank >= 0 else 1
    return World(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", size))) if size > 1 else World()


def join(settings: WorldSettings | None = None) -> World:
    """Join the processes that a launcher has started, if one has. Uses NCCL on GPUs, otherwise Gloo. Raises
    LostProcessError if not all of them start."""
    global _here, _store
    there = replace(launched(), timeout=(settings or WorldSettings()).timeout)
    if there.size > 1 and _here.size == 1:
        gpus = torch.cuda.is_available()
        if gpus:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if there.several_hosts:
            name_interface()
        with ended_at_once():
            store, *_ = next(iter(rendezvous("env://", timeout=ARRIVAL)))
            await_all(store, there.rank, there.size)
            backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
            # torchrun's store outlives a restart. Addresses of the last attempt must not be read in this one.
            store = PrefixStore(f"twofold/attempt/{attempt()}", store)
            dist.init_process_group(backend, store=store, rank=there.rank, world_size=there.size, timeout=_PATIENCE)
        _here, _store = there, store
        _watch()
        atexit.register(leave)
    return _here


def _watch() -> None:
    """Make the connections of this process fail if another host is lost."""
    if _here.several_hosts:
        give_up_after(_here.timeout)


def leave() -> None:
    """Leave the other processes."""
    global _here
    if _here.size > 1:
        await_leaving(_store, _here.rank, _here.size)
        _here = World()
        mesh_of.cache_clear()
        with suppress(Exception):  # a group whose other members have ended
            dist.destroy_process_group()


def is_sharded(model: nn.Module) -> bool:
    """Whether this process has only a part of each weight."""
    return hasattr(model, "set_requires_gradient_sync")


@cache
def mesh_of(kind: Kind, device: str, here: World) -> Any:
    """The processes as a mesh; each row shares one copy of the weights."""
    from torch.distributed.device_mesh import init_device_mesh

    if kind == "hybrid" and here.size % here.local_size:
        what = f"{here.size} processes do not fill hosts of {here.local_size}"
        raise RecipeError(what, where="world.kind", remedy="start equally many on each host, or set world.kind=shard")
    if kind == "hybrid":
        sides = here.size // here.local_size, here.local_size
        mesh = init_device_mesh(device, sides, mesh_dim_names=("copy", _FSDP))
    else:
        mesh = init_device_mesh(device, (here.size,))
    _watch()  # the new groups have their own connections
    return mesh


def shard_mesh(kind: Kind, device: str) -> Any:
    """The processes that share one copy of the weights with this one."""
    mesh = mesh_of(kind, device, world())
    return mesh[_FSDP] if kind == "hybrid" else mesh


def settle(root: nn.Module) -> None:
    """Make the parameters of a sharded model its parts again. After a forward pass, those of the root stay gathered,
    and with one setting those of the layers, too. Code that reads gathered parameters gets tensors that do not last."""
    for module in root.modules() if is_sharded(root) else ():
        if is_sharded(module):
            module.reshard()  # type: ignore[operator]  # FSDP2's


def is_part(value: Tensor) -> bool:
    """Whether each process has only a part of this tensor."""
    return hasattr(value, "full_tensor")


def whole_tensor(value: Tensor) -> Tensor:
    """The whole of a sharded tensor; every process must call it. Other tensors are returned unchanged."""
    return value.full_tensor() if is_part(value) else value  # type: ignore[operator, no-any-return]


def whole_tensors(
    tensors: Mapping[str, Tensor], put: Callable[[str, Tensor], Tensor] = lambda _, whole: whole
) -> dict[str, Tensor]:
    """On the first process, the result of `put` for each whole tensor, one after the other, on the CPU if it was
    sharded. On the others, nothing. Every process must call it."""
    once: dict[int, Tensor] = {}  # tied tensors stay tied
    for name, value in tensors.items():
        if id(value) not in once:
            full = whole_tensor(value.detach())
            once[id(value)] = put(name, full.cpu() if full is not value else full) if world().first else torch.empty(0)
    return {name: once[id(value)] for name, value in tensors.items()} if world().first else {}


@dataclass(frozen=True)
class Place:
    """The position of this process's part in a whole tensor. Of processes with the same part, one is `first`."""

    begin: Sequence[int]
    size: Sequence[int]
    first: bool


def place_of(value: Tensor) -> Place | None:
    """The position of this process's part of a tensor; None if it has the whole tensor."""
    if not is_part(value):
        return None
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    assert isinstance(value, DTensor)
    mesh = value.device_mesh
    size, begin = compute_local_shape_and_global_offset(value.shape, mesh, value.placements)
    copies = [side for side, placement in enumerate(value.placements) if placement.is_replicate()]
    return Place(begin, size, not any(mesh.get_local_rank(side) for side in copies))


def as_part(part: Tensor, like: Tensor) -> Tensor:
    """A sharded tensor with `part` as the part of this process, sharded like `like`."""
    from torch.distributed.tensor import DTensor

    assert isinstance(like, DTensor)
    named: dict[str, Any] = {"run_check": False, "shape": like.shape, "stride": like.stride()}
    return DTensor.from_local(part.to(like.device), like.device_mesh, like.placements, **named)


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor if `like` is sharded, otherwise the whole. Parts are returned unchanged."""
    place = place_of(like)
    if place is None or is_part(value):
        return value.to(like.device)
    block = tuple(slice(a, a + n) for a, n in zip(place.begin, place.size, strict=True))
    return as_part(value[block].clone(), like)


def part_here(value: Tensor) -> Tensor:
    """The local part of a tensor."""
    return value.to_local() if hasattr(value, "to_local") else value  # type: ignore[operator, no-any-return]


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype that are sent together."""
    for dtype in dict.fromkeys(grad.dtype for grad in gradients):
        bucket, size = list[Tensor](), 0
        for grad in (g for g in gradients if g.dtype == dtype):
            bucket.append(grad)
            size += grad.numel()
            if size >= _BUCKET:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket


def _raised(message: Sequence[str]) -> TwofoldError:
    """The error that another process has sent."""
    pending: list[type[TwofoldError]] = [TwofoldError]
    kinds: dict[str, type[TwofoldError]] = {}
    while pending:
        kind = pending.pop()
        kinds[kind.__name__] = kind
        pending.extend(kind.__subclasses__())
    name, what, where, remedy = message
    return kinds.get(name, TwofoldError)(what, where=where, remedy=remedy)
