"""Every verb against every kind of broken path and odd value: what an option may be given, and what must not follow."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from twofold.cli.main import VERBS, app, main

DOCUMENTED = (0, 2, 3, 4)
UNMAKEABLE = ("garbage", "loop", "/dev/full", "/dev/null", "/proc", "below a file", "300 letters")
"""All that the demo is given: anything else is a folder in which it would work for a minute."""
SECONDS = 30
ODD_NUMBERS = ("0", "-1", "1", "99999999999999999999", "9" * 5000, "nan", "inf", "-inf", "1e308", "", "x", "٣", "0x10")
ODD_TEXTS = (
    "",
    " ",
    "x",
    "-1",
    "é",
    "𝟛",
    "日本",
    "a\x1b[31mb",
    "a\nb",
    "a,b",
    "{",
    "%s",
    "9" * 5000,
    "x:y",
    ":",
    "=",
    "\udcff",
)


@dataclass(frozen=True)
class Case:
    """One command line, and what of it is broken."""

    verb: str
    option: str
    kind: str
    line: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.verb} {self.option} {self.kind}"


def broken_paths(folder: Path, run: Path) -> dict[str, Path]:
    """A path of each kind that is not what a verb expects; made anew in `folder`."""
    folder.mkdir()
    files = [f"garbage{end}" for end in ("", ".jsonl", ".yaml", ".parquet", ".arrow", ".csv")]
    others = ("missing", "folder", "dangling", "loop", "no-model", "cut-model", "pickle-model", "not-a-run")
    made = {name: folder / name for name in (*files, *others, "empty.jsonl", "empty.yaml", "recipe.yaml", "good.jsonl")}
    for name, path in made.items():
        if name.startswith("garbage"):
            path.write_bytes(bytes(range(256)) * 20)
        elif name.startswith("empty"):
            path.touch()
        elif name in ("folder", "not-a-run"):
            path.mkdir()
    (made["not-a-run"] / "metrics.jsonl").write_bytes(bytes(range(256)))
    (made["not-a-run"] / "results.json").write_text("[[[", encoding="utf-8")
    made["recipe.yaml"].write_text("model: {path: x}\ndata: {train: y.jsonl}\n", encoding="utf-8")
    made["good.jsonl"].write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', encoding="utf-8")
    made["dangling"].symlink_to(folder / "nothing")
    made["loop"].symlink_to(made["loop"])
    _damaged_runs(made, run)
    return made | {
        "/dev/full": Path("/dev/full"),
        "/dev/null": Path("/dev/null"),
        "/proc": Path("/proc/nowhere"),
        "below a file": made["garbage"] / "below",
        "missing parent": made["missing"] / "below" / "it.jsonl",
        "300 letters": folder / ("a" * 300),
        "control characters": folder / "a\x1b]0;x\x07\nb",
        "surrogates": folder / "a\udcff",
        "nothing": Path(""),
    }


def _damaged_runs(made: Mapping[str, Path], run: Path) -> None:
    import shutil

    for name in ("no-model", "cut-model", "pickle-model"):
        shutil.copytree(run, made[name])
    shutil.rmtree(made["no-model"] / "model")
    weights = made["cut-model"] / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    weights = made["pickle-model"] / "model" / "model.safetensors"
    weights.unlink()
    weights.with_name("pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")


def good_lines(folder: Path, model: Path) -> dict[str, dict[str, Any]]:
    """Of each verb a line that works, in few tokens; makes what it needs in `folder`, a run among it."""
    rows = {
        "pairs": [{"prompt": f"{n}+1=", "chosen": f"#### {n + 1}", "rejected": f"#### {n}"} for n in range(4)],
        "tasks": [{"question": f"{n}+1=", "answer": f"#### {n + 1}"} for n in range(2)],
        "fresh": [{"question": f"{n}+5=", "answer": f"#### {n + 5}"} for n in range(2)],
    }
    files = {name: folder / f"{name}.jsonl" for name in rows}
    for name, path in files.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[name]), encoding="utf-8")
    recipe, run, out = folder / "recipe.yaml", folder / "run", folder / "out"
    training = "{steps: 1, batch_size: 2}"
    text = f"model: {{path: {model}}}\ndata: {{train: {files['pairs']}}}\ntraining: {training}\nrun: {run}\n"
    recipe.write_text(text, encoding="utf-8")
    with contextlib.suppress(SystemExit):
        main(["train", str(recipe)])
    other = folder / "trl.yaml"
    other.write_text(f"model_name_or_path: {model}\ndataset_name: {files['pairs']}\nbeta: 0.1\n", encoding="utf-8")
    pairs, tasks, sharded = str(files["pairs"]), str(files["tasks"]), out / "sharded.jsonl"
    out.mkdir(exist_ok=True)
    with contextlib.suppress(SystemExit):
        line = ["--model", str(model), "--samples", "1", "--max-new-tokens", "2", "--shard", "0/1"]
        main(["data", "build", tasks, "--out", str(sharded), *line])
    short = {"samples": 1, "max_new_tokens": 2}
    return {
        "demo": {"out": "/proc/nowhere"},
        "train": {"recipe": recipe, "dry": True},
        "tune": {"file": _tune_file(folder, files["fresh"]), "dry": True},
        "evaluate": {"models": [run], "tasks": tasks, "max_new_tokens": 2},
        "explain": {"model": run, "file": pairs, "reference": model, "number": 1},
        "sample": {"model": run, "prompt": "1+1=", "settings": ["max_new_tokens=2"]},
        "score": {"file": tasks, "judge": "verifier", "out": out / "scored.jsonl"},
        "power": {"difference": 2, "prompts": 100},
        "data check": {"sources": [pairs]},
        "data show": {"source": pairs, "model": model, "number": 1},
        "data report": {"source": pairs, "out": out / "data.html"},
        "data build": {"prompts": tasks, "models": [model], "out": out / "built.jsonl", **short},
        "data label": {"file": pairs, "out": out / "labelled.jsonl", "serve": False},
        "data merge": {"out": sharded},
        "report": {"run": run},
        "compare": {"runs": [run], "out": out / "compare.html"},
        "watch": {"run": run, "once": True},
        "board": {"runs": run, "once": True, "host": "192.0.2.1"},  # without --once it is refused, and never serves
        "export": {"source": run, "out": out / "exported"},
        "import": {"kind": "trl-config", "file": other},
        "push": {"source": run, "repository": "owner/name", "dry_run": True},
        "doctor": {},
        "completion": {"shell": "bash"},
    }


def _tune_file(folder: Path, rows: Path) -> Path:
    """A tune file for the recipe in `folder`."""
    path = folder / "tune.yaml"
    sections = f"development: {{file: {rows}, limit: 1}}\nconfirm: {{file: {rows}, skip: 1}}\n"
    path.write_text(f"recipes: [recipe.yaml]\n{sections}out: {folder / 'out' / 'tune'}\n", encoding="utf-8")
    return path


def options_of(verb: str) -> dict[str, Any]:
    """A verb's parameters by name, but for help."""
    command: Any = typer.main.get_command(app)
    for word in verb.split():
        command = command.commands[word]
    return {param.name: param for param in command.params if param.name != "help"}


def numbers_of(verb: str) -> set[str]:
    """The parameters of a verb that are numbers."""
    module, _, function = VERBS[verb].partition(":")
    hints = get_type_hints(getattr(import_module(f"twofold.cli.{module}"), function))
    return {name for name, hint in hints.items() if {int, float} & {hint, *get_args(hint)}}


def cases(lines: Mapping[str, Mapping[str, Any]], paths: Mapping[str, Path]) -> Iterator[Case]:
    """All command lines: of each verb the good one of `lines`, with one option replaced by something else."""
    for verb in VERBS:
        good, options, numbers = lines[verb], options_of(verb), numbers_of(verb)
        for name, param in options.items():
            if getattr(param, "is_flag", False):
                yield _case(verb, options, {**good, name: not good.get(name)}, name, "the other way")
                continue
            odd = ODD_NUMBERS if name in numbers else () if verb == "demo" else ODD_TEXTS
            for value in odd:
                yield _case(verb, options, {**good, name: value}, name, repr(value[:20]))
            for kind, path in {} if name in numbers else paths.items():
                if verb != "demo" or kind in UNMAKEABLE:
                    yield _case(verb, options, {**good, name: str(path)}, name, kind)


def _case(verb: str, options: Mapping[str, Any], given: Mapping[str, Any], option: str, kind: str) -> Case:
    arguments: list[str] = []
    words: list[str] = []
    for name, value in given.items():
        if name not in options:
            raise KeyError(f"{verb} has no {name}")
        param, values = options[name], value if isinstance(value, list) else [value]
        if param.param_type_name == "argument":
            arguments += map(str, values)
        elif isinstance(value, bool):
            words += [param.opts[0]] if value else list(param.secondary_opts[:1])
        else:
            words += [word for one in values for word in (param.opts[0], str(one))]
    return Case(
        verb,
        option,
        kind,
        (*verb.split(), *words, *(["--"] if any(a.startswith("-") for a in arguments) else []), *arguments),
    )


def fault(case: Case) -> str:
    """What is wrong with how a command line ended; nothing of one that ended as documented."""
    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(case.line))
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:
        return f"raised {type(error).__name__}: {error}"
    else:
        return "did not exit"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if code not in DOCUMENTED or "Traceback" in err.getvalue() + out.getvalue():
        return f"exit code {code}: {err.getvalue()[-600:]}"
    if code and not (err.getvalue() + out.getvalue()).strip():
        return f"exit code {code} without a word"
    return ""


class Late(BaseException):
    """A command line takes too long; no border takes it for an error of the system."""


def _late(number: int, frame: object) -> None:
    raise Late(f"more than {SECONDS} seconds")
