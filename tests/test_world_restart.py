"""Processes that a launcher starts again, at a store that outlives the restart, as torchrun's does."""

from __future__ import annotations

import torch.distributed as dist

from support.processes import finish, start

CODE = """
import importlib, sys, time, torch
world = importlib.import_module("twofold.world")
await_all = world.await_all

def await_all_and_be_late(store, rank, size):
    await_all(store, rank, size)
    time.sleep(rank * float(sys.argv[1]))

world.await_all = await_all_and_be_late
here = world.join()
print(here.total(torch.tensor([1 + here.rank])).tolist())
time.sleep(here.rank * float(sys.argv[1]))
began = time.monotonic()
world.leave()
print("waited" if time.monotonic() - began > 1 else "left")
"""


def test_a_restart_reads_no_address_of_the_last_attempt() -> None:
    """The second process publishes its address late. Until then the store has only that of the last attempt, which is
    made unreadable here. It also leaves late, and the first process waits for it."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for attempt, late in enumerate(("0", "1.5")):
        launcher = {"MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        for key in store.list_keys():
            store.set(key, "of the last attempt")
        running = start(2, late, code=CODE, **launcher, TORCHELASTIC_RESTART_COUNT=str(attempt))
        first, second = (text.split() for text in finish(running, 60))
        assert first == ["[3]", "waited" if late == "1.5" else "left"]
        assert second == ["[3]", "left"]
