"""Every tracker's own package, once for real: a run of four steps, read back from what the package stored."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.sum_pairs import ROWS, write

pytestmark = pytest.mark.slow
Figures = dict[tuple[str, int], float]
TRACKIO = "import json, sys; from trackio.sqlite_storage import SQLiteStorage as S; print(json.dumps(S.get_logs('twofold', sys.argv[1])))"  # fmt: skip  # noqa: E501
MLFLOW = """
import json, sys, mlflow
client = mlflow.MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("twofold").experiment_id])
assert [run.info.run_name for run in runs] == [sys.argv[1]] and runs[0].info.status == "FINISHED"
assert runs[0].data.params["training.steps"] == "4"
history = [m for name in runs[0].data.metrics for m in client.get_metric_history(runs[0].info.run_id, name)]
print(json.dumps([[m.key, m.step, m.value] for m in history]))
"""


RESUMED = """
import sys
from pathlib import Path
from twofold.progress import Silent
from twofold.training.track import Tracker

for step, resumed in ((0, False), (1, True), (0, False)):
    tracker = Tracker("mlflow", Path(sys.argv[1]), {"judge": "https://me:secret@host/x"}, Silent())
    tracker.begin(step, resumed=resumed)
    tracker.write({"kind": "train", "step": step, "loss": 1.5, "odd=name": 2.0})
    tracker.end()
    assert not tracker.progress.warnings, tracker.progress.warnings
import mlflow

client = mlflow.MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("twofold").experiment_id], order_by=["start_time"])
print([[m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] for run in runs])
print(runs[0].data.metrics, runs[0].data.params)
"""


def python(folder: Path, *arguments: object) -> str:
    """A Python of its own, whose trackers write below `folder` and send nothing."""
    places = {"TRACKIO_DIR": folder / "trackio", "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    env = {**os.environ, **{k: str(v) for k, v in places.items()}, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def tensorboard(folder: Path, _: str) -> Figures:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "run" / "tensorboard")).Reload()
    return {(tag, e.step): e.value for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}


def records(data: bytes) -> list[bytes]:
    """The records of a file of wandb: LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes."""
    whole, part, at = list[bytes](), b"", 7
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part += data[at + 7 : at + 7 + length]
        if kind in (1, 4):  # whole, or the last part
            whole, part = [*whole, part], b""
        at += 7 + length
    return whole


def wandb(folder: Path, identity: str) -> Figures:
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[import-not-found]

    (file,) = (folder / "run" / "wandb").glob(f"offline-run-*/run-{identity}.wandb")
    figures: Figures = {}
    for data in records(file.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            figures |= {(k, int(row["_step"])): v for k, v in row.items() if not k.startswith("_")}
    return figures


def trackio(folder: Path, identity: str) -> Figures:
    rows: list[dict[str, Any]] = json.loads(python(folder, "-c", TRACKIO, identity).splitlines()[-1])
    return {(k, row["step"]): v for row in rows for k, v in row.items() if k not in ("step", "timestamp")}


def mlflow(folder: Path, identity: str) -> Figures:
    return {(k, step): v for k, step, v in json.loads(python(folder, "-c", MLFLOW, identity).splitlines()[-1])}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("read", [tensorboard, wandb, trackio, mlflow])
def test_a_tracker_has_every_row(base: Path, tmp_path: Path, read: Callable[[Path, str], Figures]) -> None:
    kind = read.__name__
    pytest.importorskip(kind, reason=f"{kind} is not installed: pip install 'twofold[{kind}]'", exc_type=ImportError)
    recipe = {
        "model": {"path": str(base), "precision": "float32"},
        "data": {"train": str(write(tmp_path / "pairs.jsonl", ROWS)), "heldout": {"count": 4}},
        "training": {"steps": 4, "batch_size": 4, "track": kind, "evaluate_every": 2},
        "run": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    python(tmp_path, "-m", "twofold", "train", "recipe.yaml")
    identity = json.loads((tmp_path / "run" / "tracker.json").read_text("utf-8"))["identity"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    prefix = {"train": "train/", "evaluation": ""}
    expected = {
        (prefix[row["kind"]] + k, row["step"]): v for row in rows for k, v in row.items() if k not in ("kind", "step")
    }
    assert len(expected) > 20
    assert read(tmp_path, identity) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_resumed_run_is_one_run_of_mlflow_and_a_new_one_another(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'twofold[mlflow]'", exc_type=ImportError)
    (run := tmp_path / "it's mine").mkdir()
    steps, last = python(tmp_path, "-c", RESUMED, run).splitlines()[-2:]
    assert steps == "[[0, 1], [0]]"
    assert last == "{'train/loss': 1.5, 'train/odd_name': 2.0} {'judge': 'https://[redacted]@host/x'}"
