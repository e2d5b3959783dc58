"""Bytes of a collective over Gloo as a multiple of its tensor's: `python -m benchmarks.gloo_traffic`.

They are those that the loopback device carries for all processes together, so nothing else may use it meanwhile
(`unshare -n` has one of its own). FSDP2 gathers weights and sums gradients by these collectives.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.commands import circumstances, command_line
from benchmarks.processes_speed import loopback
from benchmarks.reporting import print_table

NUMBERS = 25_000_000


def main() -> None:
    """Measure, print, write."""
    parser = command_line("benchmarks.gloo_traffic", __doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 3])
    options = parser.parse_args()
    facts, rows = circumstances("benchmarks.gloo_traffic"), list[dict[str, Any]]()
    for processes in options.processes:
        with multiprocessing.Manager() as manager, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            made = manager.dict()
            port = free.getsockname()[1]
            free.close()
            spawn(_process, (processes, port, made), processes)
            rows.append({"processes": processes, **made})
    print_table("bytes on the loopback / bytes of the tensor", rows)
    if options.json:
        options.json.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _process(rank: int, processes: int, port: int, made: dict[str, float]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    part = torch.ones(NUMBERS // processes)
    whole = torch.ones(len(part) * processes)
    collectives: dict[str, Callable[[], Any]] = {
        "all-gather": lambda: dist.all_gather_into_tensor(whole, part),
        "reduce-scatter": lambda: dist.reduce_scatter_tensor(part, whole),
        "all-reduce": lambda: dist.all_reduce(whole),
    }
    dist.all_reduce(part.clone())  # connects
    for name, run in collectives.items():
        dist.barrier()
        before = loopback()
        dist.barrier()
        run()
        dist.barrier()
        if rank == 0:
            made[name] = round((loopback() - before) / (4 * len(whole)), 3)
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
