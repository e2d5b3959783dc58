"""MLflow: what its client is called with for a new run, for one that is resumed, and for many or long settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from twofold.training import track
from twofold.training.track import Start


class Client:
    """As much of MLflow's client as is used, which records its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.experiment: Any = None
        self.runs: list[Any] = []

    def get_experiment_by_name(self, name: str) -> Any:
        self.calls.append(("experiment", name))
        return self.experiment

    def create_experiment(self, name: str) -> str:
        self.calls.append(("create experiment", name))
        return "e1"

    def search_runs(self, experiments: list[str], query: str, max_results: int = 1000) -> list[Any]:
        self.calls.append(("search", experiments, query, max_results))
        return self.runs

    def create_run(self, experiment: str, run_name: str = "", tags: Any = None) -> Any:
        self.calls.append(("create run", experiment, run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def update_run(self, run: str, status: str = "") -> None:
        self.calls.append(("update", run, status))

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        self.calls.append(("log", run, list(metrics), list(params)))

    def set_terminated(self, run: str) -> None:
        self.calls.append(("end", run))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()
    mlflow, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    mlflow.__dict__.update(MlflowClient=lambda: made, entities=entities)
    entities.__dict__.update(Metric=lambda *fields: ("metric", *fields), Param=lambda *fields: fields)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    return made


def start(settings: dict[str, Any] | None = None) -> Start:
    return Start(Path("run"), "my-run-0a1b", 0, False, settings or {})


def test_a_new_run_has_its_settings_figures_and_an_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track.time, "time", lambda: 12.3456)
    settings = {"objective": {"kind": "dpo", "beta": 0.1, "none": {}}, "steps": 3, "odd:name": None}
    session = track.SESSIONS["mlflow"](start(settings))
    session.write(4, {"train/loss": 0.5, "p@1": 1.0})
    session.close()
    assert client.calls == [
        ("experiment", "twofold"), ("create experiment", "twofold"),
        ("search", ["e1"], "tags.`twofold` = '0a1b'", 1),
        ("create run", "e1", "my-run-0a1b", {"twofold": "0a1b"}),
        ("log", "r1", [], [("objective.kind", "dpo"), ("objective.beta", "0.1"), ("objective.none", "{}"),
                           ("steps", "3"), ("odd_name", "None")]),
        ("log", "r1", [("metric", "train/loss", 0.5, 12345, 4), ("metric", "p_1", 1.0, 12345, 4)], []),
        ("end", "r1"),
    ]  # fmt: skip
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_run_that_is_there_goes_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    client.experiment = SimpleNamespace(experiment_id="e7")
    client.runs = [SimpleNamespace(info=SimpleNamespace(run_id=run)) for run in ("r3", "r2")]
    track.SESSIONS["mlflow"](start({"steps": 3})).close()
    assert client.calls == [
        ("experiment", "mine"), ("search", ["e7"], "tags.`twofold` = '0a1b'", 1), ("update", "r3", "RUNNING"),
        ("end", "r3"),
    ]  # fmt: skip
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_settings_are_sent_a_hundred_at_a_time_and_cut_at_six_thousand_letters(client: Client) -> None:
    track.SESSIONS["mlflow"](start({f"k{i}": "x" * 6001 if i == 0 else i for i in range(201)}))
    sent = [call[3] for call in client.calls if call[0] == "log"]
    assert [len(params) for params in sent] == [100, 100, 1]
    assert [name for params in sent for name, _ in params] == [f"k{i}" for i in range(201)]
    assert sent[0][0] == ("k0", "x" * 6000)
