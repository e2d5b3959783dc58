"""The winners of all methods on fresh rows, once; a record refuses rows that have confirmed anything before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twofold import disk
from twofold.locks import exclusive
from twofold.runs.tuning.measure import Meter
from twofold.runs.tuning.plan import Plan
from twofold.runs.tuning.rows import refuse_used
from twofold.runs.tuning.search import Standing
from twofold.shards import digest
from twofold.stopping import StopAsked, droppable

Confirmed = Mapping[str, Sequence[Sequence[float]]]
"""The values of each method's winner on the fresh rows, [seeds][rows]."""
FOLDER = "confirmed"


def refuse_known(plan: Plan) -> None:
    """Raise LeakError before a trial is run if the fresh rows have confirmed trials of another tune file here."""
    keys = {trial.key for method in plan.methods for trial in method.trials}
    others = [record for record in _records(plan) if not {*record["winners"].values()} <= keys]
    refuse_used(plan.confirm, {prompt for record in others for prompt in record["prompts"]}, str(plan.out))


def confirm(plan: Plan, standings: Sequence[Standing], meter: Meter, stop: StopAsked) -> Confirmed:
    """Measure the winner of each method on the fresh rows, or read what was measured. The rows are recorded as used
    before the first of them is measured. Methods without a sound trial are left out.

    Raises LeakError for rows that have confirmed other winners here, and BusyError while another process measures."""
    winners = {s.method.name: s.winner for s in standings if s.rungs[-1].score(s.winner.number) is not None}
    keys = {name: trial.key for name, trial in winners.items()}
    request = digest({"winners": keys, "seeds": plan.settings.seeds, "rows": plan.confirm.digest}, [])[:16]
    path = plan.out / FOLDER / f"{request}.json"
    disk.make_folder(path.parent)
    with exclusive(path.with_suffix(".lock"), "another process confirms these winners"):
        known = disk.read_signed(path, about=path.name)
        if known is not None and known["values"] is not None:
            return known["values"]
        others = [record for record in _records(plan) if record["request"] != request]
        refuse_used(plan.confirm, {prompt for record in others for prompt in record["prompts"]}, str(plan.out))
        claim = {"request": request, "winners": keys, "prompts": plan.confirm.prompts, "values": None}
        disk.write_signed(path, claim, about=path.name)
        values: dict[str, list[list[float]]] = {}
        for name, trial in winners.items():
            with droppable(stop):
                runs = [trial.run(seed, plan.out) for seed in plan.settings.seeds]
                values[name] = [meter.values(str(run), plan.confirm) for run in runs]
        disk.write_signed(path, {**claim, "values": values}, about=path.name)
    return values


def _records(plan: Plan) -> list[dict[str, Any]]:
    files = sorted((plan.out / FOLDER).glob("*.json"))
    return [record for file in files if (record := disk.read_signed(file, about=file.name)) is not None]
