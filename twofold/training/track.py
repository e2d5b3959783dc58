"""Trackers: a run's metrics also to TensorBoard, Weights & Biases, trackio or MLflow; metrics.jsonl stays the record.

Keys and addresses come from the environment, as each tracker reads them (`WANDB_API_KEY`, `MLFLOW_TRACKING_URI` …), and
never from a recipe. If a tracker fails during a run, one warning is given and the run continues without it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from twofold.disk import read_signed, real, remove, write_signed
from twofold.errors import RecipeError
from twofold.progress import Progress, Silent

Tracking = Literal["none", "tensorboard", "wandb", "trackio", "mlflow"]
PROJECT = "twofold"
FILE = "tracker.json"
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)
USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")
REDACTED = "[redacted]"


class Session(Protocol):
    """An open tracker: figures by name at a step, and an end."""

    def write(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Start:
    """What a tracker receives about a run. `identity` names it and stays the same when it is resumed at `step`."""

    run: Path
    identity: str
    step: int
    resumed: bool
    settings: Mapping[str, Any]


def refuse_missing(kind: Tracking) -> None:
    """Raise RecipeError where the tracker's package, or a key that it requires, is missing."""
    if kind == "none":
        return
    try:
        importlib.import_module(kind)
    except ImportError:
        told = f"pip install 'twofold[{kind}]', or leave training.track out"
        raise RecipeError(f"{kind} is not installed", where="training.track", remedy=told) from None
    here = os.environ.get("WANDB_MODE", "online") in ("offline", "disabled", "dryrun")
    if kind == "wandb" and not here and not os.environ.get("WANDB_API_KEY"):
        told = "set it to your key, or WANDB_MODE=offline to send the run later with `wandb sync`"
        raise RecipeError("wandb finds no WANDB_API_KEY in the environment", where="training.track", remedy=told)


@dataclass
class Tracker:
    """Receives the rows of the loop: passes them to one session of a tracker, or ignores them."""

    kind: Tracking
    run: Path
    settings: Mapping[str, Any]
    progress: Progress
    session: Session | None = field(default=None, init=False)

    def begin(self, step: int, *, resumed: bool) -> None:
        """Open the session: a new one, or the one that the run had when it was stopped. Raises RecipeError."""
        if self.kind == "none":
            return
        refuse_missing(self.kind)
        identity = self._identity(resumed)
        start = Start(self.run, identity, step, resumed, redacted(self.settings))
        try:
            with redirect_stdout(sys.stderr):  # trackers print a greeting; standard output is for results
                self.session = SESSIONS[self.kind](start)
        except Exception as error:  # third-party code may raise anything; its text is passed on
            what = f"{self.kind} cannot begin: {redacted(str(error) or type(error).__name__)}"
            raise RecipeError(what, where="training.track", remedy="sign in to it, or set it to none") from None

    def write(self, row: Mapping[str, Any]) -> None:
        """Pass on the numbers of a line of metrics.jsonl."""
        if self.session is None:
            return
        try:
            self.session.write(int(row["step"]), figures_of(row))
        except Exception as error:
            self.session = None
            what = redacted(str(error) or type(error).__name__)
            self.progress.warn(f"{self.kind} failed ({what}); the run continues without it, metrics.jsonl is complete")

    def end(self) -> None:
        """Close the session, so that what it has buffered is written."""
        session, self.session = self.session, None
        if session is None:
            return
        try:
            with redirect_stdout(sys.stderr):
                session.close()
        except Exception as error:
            self.progress.warn(f"{self.kind} could not be closed: {redacted(str(error))}")

    def _identity(self, resumed: bool) -> str:
        """The run's name in the tracker, stored in its folder. A resumed run continues under it."""
        path = self.run / FILE
        known = read_signed(path, about=FILE) if resumed else None
        if known is not None:
            return str(known["identity"])
        if resumed and path.exists():
            self.progress.warn(f"{path} is damaged: {self.kind} gets the rest of the run as a new one")
        identity = f"{real(self.run).name}-{uuid.uuid4().hex[:8]}"
        write_signed(path, {"kind": self.kind, "identity": identity}, about=FILE)
        return identity


def untracked() -> Tracker:
    """A tracker that does nothing."""
    return Tracker("none", Path(), {}, Silent())


def figures_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by their names in a tracker; those of training are under `train/`."""
    prefix = "train/" if row["kind"] == "train" else ""
    return {f"{prefix}{k}": float(v) for k, v in row.items() if k not in ("kind", "step")}


def redacted(value: Any) -> Any:
    """`value` (text, mapping or list) without the values of environment variables named as a key, token, secret or
    password, and without the name and password of an address."""
    if isinstance(value, Mapping):
        return {k: redacted(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(v) for v in value]
    if not isinstance(value, str):
        return value
    for secret in (v for k, v in os.environ.items() if SECRET.search(k) and len(v) >= 8):
        value = value.replace(secret, REDACTED)
    return USER_IN_URL.sub(REDACTED, value)


class _TensorBoard:
    """Event files in the run's folder. A resumed run drops what it had written of its step and later ones. It writes
    again what metrics.jsonl still has of them: the evaluation before the checkpoint."""

    def __init__(self, start: Start) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = start.run / "tensorboard"
        if not start.resumed:
            remove(folder)
        self._writer = SummaryWriter(str(folder), purge_step=start.step if start.resumed else None)
        if not start.resumed:
            self._writer.add_text("settings", f"```\n{json.dumps(start.settings, indent=2, default=str)}\n```")
            return
        with (start.run / "metrics.jsonl").open(encoding="utf-8") as file:
            for row in (json.loads(line) for line in file):
                if row["step"] >= start.step:
                    self.write(row["step"], figures_of(row))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Run:
    """An open run of Weights & Biases or of trackio, which write and close alike."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


def _wandb(start: Start) -> _Run:
    """A run of Weights & Biases. It keeps the first values of a step; a resumed run repeats them to the byte."""
    wandb = importlib.import_module("wandb")
    return _Run(wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), name=real(start.run).name, id=start.identity,
        resume="allow", config=dict(start.settings), dir=str(start.run),
    ))  # fmt: skip


def _trackio(start: Start) -> _Run:
    """A run of trackio: a local database, or a Space where TRACKIO_SPACE_ID names one."""
    trackio = importlib.import_module("trackio")
    return _Run(trackio.init(
        project=os.environ.get("TRACKIO_PROJECT", PROJECT), name=start.identity, config=dict(start.settings),
        space_id=os.environ.get("TRACKIO_SPACE_ID"), resume="allow", embed=False,
    ))  # fmt: skip


class _MLflow:
    """A run of MLflow: where MLFLOW_TRACKING_URI names a server, else in MLflow's local database."""

    def __init__(self, start: Start) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # the run's figures, and nothing about its user
        self._client: Any = importlib.import_module("mlflow").MlflowClient()
        self._entities: Any = importlib.import_module("mlflow.entities")
        name, mark = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), start.identity.rpartition("-")[2]
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        earlier = self._client.search_runs([experiment], f"tags.`{PROJECT}` = '{mark}'", max_results=1)
        if earlier:
            self._run = earlier[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(experiment, run_name=start.identity, tags={PROJECT: mark}).info.run_id
        params = [self._entities.Param(_mlflow_name(k), str(v)[:_LONGEST]) for k, v in _leaves(start.settings)]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run, params=params[first : first + _MOST_PARAMS])

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(_mlflow_name(k), v, now, step) for k, v in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


_MOST_PARAMS, _LONGEST = 100, 6000
"""How many settings MLflow takes in a call, and how many characters of each."""


def _mlflow_name(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w.\-/ ]", "_", name)


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their path in a recipe (`objective.beta`)."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


SESSIONS: Mapping[str, Callable[[Start], Session]] = {
    "tensorboard": _TensorBoard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _MLflow,
}
