"""Trackers by themselves: what each package is called with, whose run it is, and what becomes of its failures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from twofold.errors import RecipeError
from twofold.progress import Silent
from twofold.training.track import FILE, Tracker, Tracking, figures_of, redacted, refuse_missing, untracked

SECRET = "sk-1234567890"


class Package:
    """As much of wandb and trackio as is used: `init(...)` gives a run with `log` and `finish`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.inits: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.fails: dict[str, Exception] = {}
        module = ModuleType(name)
        module.__dict__["init"] = self.init
        monkeypatch.setitem(sys.modules, name, module)
        for variable in ("WANDB_PROJECT", "WANDB_MODE", "TRACKIO_PROJECT", "TRACKIO_SPACE_ID"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("WANDB_API_KEY", SECRET)

    def _maybe(self, call: str) -> None:
        if call in self.fails:
            raise self.fails[call]

    def init(self, **settings: Any) -> Package:
        print("welcome")
        self._maybe("init")
        self.inits.append(settings)
        return self

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        self._maybe("log")
        self.logged.append((step, metrics))

    def finish(self) -> None:
        print("good-bye")
        self.finished += 1
        self._maybe("finish")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Package:
    return Package(monkeypatch, "wandb")


def tracker(run: Path, kind: Tracking = "wandb", settings: Mapping[str, Any] | None = None) -> Tracker:
    run.mkdir(exist_ok=True)
    return Tracker(kind, run, settings or {}, Silent())


def warnings(made: Tracker) -> list[str]:
    assert isinstance(made.progress, Silent)
    return made.progress.warnings


def identity(run: Path) -> str:
    return json.loads((run / FILE).read_text())["identity"]


def test_no_tracker_does_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = untracked()
    made.begin(0, resumed=False)
    made.write({"kind": "train", "step": 0, "loss": 1.0})
    made.end()
    assert (made.kind, made.session, warnings(made), list(tmp_path.iterdir())) == ("none", None, [], [])
    refuse_missing("none")


@pytest.mark.parametrize(
    ("mode", "key", "fine"),
    [
        (None, None, False), (None, "", False), ("online", None, False), ("online", SECRET, True), (None, SECRET, True),
        ("offline", None, True), ("disabled", None, True), ("dryrun", None, True),
    ],
)  # fmt: skip
def test_wandb_needs_a_key_unless_it_sends_nothing(
    wandb: Package, monkeypatch: pytest.MonkeyPatch, mode: str | None, key: str | None, fine: bool
) -> None:
    for name, value in (("WANDB_MODE", mode), ("WANDB_API_KEY", key)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    if fine:
        refuse_missing("wandb")
        return
    with pytest.raises(RecipeError) as error:
        refuse_missing("wandb")
    assert str(error.value) == (
        "training.track: wandb finds no WANDB_API_KEY in the environment\n"
        "  → set it to your key, or WANDB_MODE=offline to send the run later with `wandb sync`"
    )


def test_trackio_needs_no_key_and_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Package(monkeypatch, "trackio")
    monkeypatch.delenv("WANDB_API_KEY")
    refuse_missing("trackio")
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(RecipeError) as error:
        refuse_missing("trackio")
    assert str(error.value) == (
        "training.track: trackio is not installed\n  → pip install 'twofold[trackio]', or leave training.track out"
    )


def test_wandb_is_opened_with_the_run_its_settings_and_no_secret(
    wandb: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "mine"
    made = tracker(run, settings={"judge": f"https://me:pw@host/{SECRET}", "steps": 3})
    made.begin(0, resumed=False)
    name, _, mark = identity(run).rpartition("-")
    assert (name, len(mark), int(mark, 16) >= 0) == ("mine", 8, True)
    assert wandb.inits == [
        {
            "project": "twofold", "name": "mine", "id": identity(run), "resume": "allow", "dir": str(run),
            "config": {"judge": "https://[redacted]@host/[redacted]", "steps": 3},
        }
    ]  # fmt: skip
    made.end()
    assert capsys.readouterr() == ("", "welcome\ngood-bye\n")  # standard output is for results
    monkeypatch.setenv("WANDB_PROJECT", "other")
    tracker(run).begin(0, resumed=True)
    assert wandb.inits[1]["project"] == "other"


def test_trackio_is_opened_with_the_same_under_its_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio, run = Package(monkeypatch, "trackio"), tmp_path / "mine"
    tracker(run, "trackio", {"steps": 3}).begin(0, resumed=False)
    monkeypatch.setenv("TRACKIO_PROJECT", "other")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/space")
    tracker(run, "trackio").begin(0, resumed=True)
    common = {"name": identity(run), "resume": "allow", "embed": False}
    assert trackio.inits == [
        {**common, "project": "twofold", "config": {"steps": 3}, "space_id": None},
        {**common, "project": "other", "config": {}, "space_id": "me/space"},
    ]


def test_a_resumed_run_goes_on_under_its_name_and_a_new_one_gets_another(wandb: Package, tmp_path: Path) -> None:
    for resumed in (False, True, False):
        tracker(tmp_path / "run").begin(2, resumed=resumed)
    first, second, third = (each["id"] for each in wandb.inits)
    assert first == second != third == identity(tmp_path / "run")


def test_a_damaged_name_costs_a_warning_and_an_absent_one_does_not(wandb: Package, tmp_path: Path) -> None:
    made = tracker(tmp_path / "run")
    made.begin(2, resumed=True)
    assert warnings(made) == []
    path = tmp_path / "run" / FILE
    path.write_text(path.read_text().replace("run-", "gun-"))
    made.begin(2, resumed=True)
    assert warnings(made) == [f"{path} is damaged: wandb gets the rest of the run as a new one"]
    assert wandb.inits[0]["id"] != wandb.inits[1]["id"] == identity(tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(f"no route, key {SECRET}"), "no route, key [redacted]"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_a_tracker_that_cannot_begin_is_one_message(
    wandb: Package, tmp_path: Path, error: Exception, words: str
) -> None:
    wandb.fails["init"] = error
    with pytest.raises(RecipeError) as caught:
        tracker(tmp_path / "run").begin(0, resumed=False)
    assert str(caught.value) == f"training.track: wandb cannot begin: {words}\n  → sign in to it, or set it to none"


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(f"cut off, key {SECRET}"), "cut off, key [redacted]"), (TimeoutError(), "TimeoutError")],
)
def test_one_that_fails_on_the_way_is_left_behind(wandb: Package, tmp_path: Path, error: Exception, words: str) -> None:
    made = tracker(tmp_path / "run")
    made.begin(0, resumed=False)
    made.write({"kind": "train", "step": 4, "loss": 1, "margin": 0.5})
    made.write({"kind": "evaluation", "step": 5, "heldout/loss": 2.0})
    wandb.fails["log"] = error
    for step in (6, 7):
        made.write({"kind": "train", "step": step, "loss": 3.0})
    made.end()
    assert wandb.logged == [(4, {"train/loss": 1.0, "train/margin": 0.5}), (5, {"heldout/loss": 2.0})]
    assert warnings(made) == [f"wandb failed ({words}); the run continues without it, metrics.jsonl is complete"]
    assert wandb.finished == 0


def test_a_session_is_closed_once_and_its_failure_is_a_warning(wandb: Package, tmp_path: Path) -> None:
    made = tracker(tmp_path / "run")
    made.begin(0, resumed=False)
    wandb.fails["finish"] = RuntimeError(f"late, {SECRET}")
    made.end()
    made.end()
    assert (wandb.finished, made.session) == (1, None)
    assert warnings(made) == ["wandb could not be closed: late, [redacted]"]


def test_figures_are_named_by_where_they_come_from() -> None:
    row = {"kind": "train", "step": 3, "loss": 1, "learning_rate": 0.5}
    found = figures_of(row)
    assert found == {"train/loss": 1.0, "train/learning_rate": 0.5}
    assert all(isinstance(value, float) for value in found.values())
    assert figures_of({"kind": "evaluation", "step": 3, "exact": 1.0}) == {"exact": 1.0}


@pytest.mark.parametrize("name", ["MY_KEY", "MY_TOKEN", "MY_SECRET", "MY_PASSWORD", "my_passwd", "mykey2"])
def test_what_the_environment_calls_secret_is_struck_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "12345678")
    monkeypatch.setenv("OTHER", "abcdefgh")
    monkeypatch.setenv("SHORT_KEY", "7654321")
    value = {"a": ("x12345678y", {"b": ["12345678", 12345678, None, True]}), "c": "abcdefgh 7654321"}
    assert redacted(value) == {
        "a": ["x[redacted]y", {"b": ["[redacted]", 12345678, None, True]}], "c": "abcdefgh 7654321",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://me:pw@host/v1", "https://[redacted]@host/v1"),
        ("https://me@host", "https://[redacted]@host"),
        ("https://host/a@b", "https://host/a@b"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_the_name_in_an_address_is_struck_out(address: str, told: str) -> None:
    assert redacted(address) == told


class Writer:
    """As much of TensorBoard's SummaryWriter as is used."""

    made: list[Writer]

    def __init__(self, folder: str, purge_step: int | None = None) -> None:
        Path(folder).mkdir(exist_ok=True)
        self.folder, self.purge_step, self.closed = Path(folder), purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        self.texts: list[tuple[str, str]] = []
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def add_text(self, name: str, text: str) -> None:
        self.texts.append((name, text))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    Writer.made = []
    for name in ("tensorboard", "torch.utils.tensorboard"):
        module = ModuleType(name)
        module.__dict__["SummaryWriter"] = Writer
        monkeypatch.setitem(sys.modules, name, module)
    return Writer.made


def test_a_new_run_begins_its_tensorboard_folder_anew(writers: list[Writer], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "tensorboard").mkdir(parents=True)
    (run / "tensorboard" / "old").write_text("events")
    made = tracker(run, "tensorboard", {"steps": 3, "path": Path("x")})
    made.begin(0, resumed=False)
    made.write({"kind": "train", "step": 2, "loss": 1.5})
    made.end()
    (writer,) = writers
    assert (writer.folder, writer.purge_step, writer.closed) == (run / "tensorboard", None, True)
    assert list(writer.folder.iterdir()) == []
    assert writer.texts == [("settings", '```\n{\n  "steps": 3,\n  "path": "x"\n}\n```')]
    assert writer.scalars == [("train/loss", 1.5, 2)]


def test_a_resumed_one_tells_again_what_it_takes_back(writers: list[Writer], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "tensorboard").mkdir(parents=True)
    (run / "tensorboard" / "old").write_text("events")
    rows = [{"kind": "train", "step": s, "loss": s + 0.5} for s in (1, 2)]
    rows += [{"kind": "evaluation", "step": s, "loss": s + 0.25} for s in (2, 3, 4)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tracker(run, "tensorboard").begin(3, resumed=True)
    (writer,) = writers
    assert (writer.purge_step, writer.texts) == (3, [])
    assert (run / "tensorboard" / "old").exists()
    assert writer.scalars == [("loss", 3.25, 3), ("loss", 4.25, 4)]
