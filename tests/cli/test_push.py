"""`twofold push`: which files a repository gets, which are refused, and the commit that a stub of the hub receives."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

Run = Callable[..., Any]


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that makes a repository and commits to it."""

    made: ClassVar[list[Any]] = []
    files: ClassVar[dict[str, bytes]] = {}
    refuses: ClassVar[int] = 0

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if Hub.refuses:
            self._answer({"error": "no"}, Hub.refuses)
        elif self.path == "/api/repos/create":
            Hub.made.append(json.loads(raw))
            self._answer({"url": f"http://{self.headers['Host']}/me/model"})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(raw)["files"]]
            self._answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in raw.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            Hub.files |= {file["path"]: base64.b64decode(file["content"]) for file in files}
            self._answer({"commitUrl": f"http://{self.headers['Host']}/me/model/commit/1", "commitOid": "1"})

    def do_GET(self) -> None:
        self._answer({}, 404)

    def _answer(self, body: dict[str, Any], code: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the test prints no requests."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    import huggingface_hub

    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    Hub.made, Hub.files, Hub.refuses = [], {}, 0
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with the files that matter here."""
    folder = tmp_path / "run"
    (folder / "model" / "extra").mkdir(parents=True)
    for name, text in {
        "model/config.json": "{}", "model/model.safetensors": "weights", "model/extra/note.md": "a note",
        "model/.gitattributes": "", "README.md": "# card", "results.json": "{}", "metrics.jsonl": "{}",
    }.items():  # fmt: skip
        (folder / name).write_text(text)
    return folder


def test_a_run_is_one_commit_of_its_model_card_and_results(twofold: Run, run: Path, hub: type[Hub]) -> None:
    pairs = run.parent / "pairs.jsonl"
    pairs.write_text('{"prompt": "a"}\n')
    answer = twofold("push", run, "me/model", "--private", "--pairs", pairs)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1].endswith("/me/model/commit/1")
    assert hub.made[0]["visibility"] == "private"
    assert hub.files == {
        "config.json": b"{}", "model.safetensors": b"weights", "extra/note.md": b"a note", "README.md": b"# card",
        "results.json": b"{}", "data/pairs.jsonl": b'{"prompt": "a"}\n',
    }  # fmt: skip


def test_a_dry_run_lists_every_file_and_sends_none(twofold: Run, run: Path, hub: type[Hub]) -> None:
    answer = twofold("push", run, "me/model", "--dry-run")
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()[1:]] == [
        "config.json", "extra/note.md", "model.safetensors", "README.md", "results.json",
    ]  # fmt: skip
    assert "dry run: 5 files would go to me/model" in answer.err
    assert (hub.made, hub.files) == ([], {})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("model/notes.md", "key: hf_" + "a1B2" * 8, "notes.md:1: holds a Hugging Face token"),
        ("results.json", '{\n"url": "https://me:pass@host/x"}', "results.json:2: holds a password in a URL"),
        ("model/chat_template.jinja", "sk-" + "a" * 30, "holds an API key"),
        ("README.md", "AKIA" + "A" * 16, "holds an AWS key"),
        ("README.md", "-----BEGIN RSA PRIVATE KEY-----", "holds a private key"),
        ("model/.env", "", "has the name of a file with secrets"),
        ("model/server.pem", "", "has the name of a file with secrets"),
    ],
)
def test_secrets_are_refused_before_anything_is_sent(
    twofold: Run, run: Path, hub: type[Hub], name: str, text: str, message: str
) -> None:
    (run / name).write_text(text)
    answer = twofold("push", run, "me/model")
    assert (answer.code, hub.made) == (2, [])
    assert message in " ".join(answer.err.split())


def test_links_and_damaged_models_are_refused(twofold: Run, run: Path) -> None:
    from twofold import manifest

    manifest.write(run / "model")
    (run / "model" / "config.json").write_text("{ }")
    assert "config.json" in twofold("push", run, "me/model", "--dry-run").err
    (run / "model" / "config.json").write_text("{}")
    (run / "model" / "link.md").symlink_to(run / "metrics.jsonl")
    assert "is no plain file" in twofold("push", run, "me/model", "--dry-run").err


@pytest.mark.parametrize(("code", "message"), [(401, "check the name"), (403, "check the name")])
def test_what_the_hub_refuses_is_one_message(twofold: Run, run: Path, hub: type[Hub], code: int, message: str) -> None:
    hub.refuses = code
    answer = twofold("push", run, "me/model")
    assert answer.code == 4
    assert message in " ".join(answer.err.split())
    assert "is no name of a repository" in twofold("push", run, "a b/c//d").err


def test_without_a_network_it_says_so(twofold: Run, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    answer = twofold("push", run, "me/model")
    assert answer.code == 4
    assert "Traceback" not in answer.err


def test_two_files_of_one_name_and_odd_names_of_repositories_are_refused(
    twofold: Run, run: Path, tmp_path: Path
) -> None:
    pairs = [tmp_path / name / "pairs.jsonl" for name in "ab"]
    for path in pairs:
        path.parent.mkdir()
        path.write_text("{}\n", encoding="utf-8")
    answer = twofold("push", run, "me/model", "--dry-run", "--pairs", pairs[0], "--pairs", pairs[1])
    assert (answer.code, "has the same name on the hub" in answer.err) == (2, True)
    for name in ("me/my model", "a/b/c", "me/a--b", "me/x.git", ""):
        answer = twofold("push", run, name, "--dry-run")
        assert (answer.code, "is no name of a repository" in answer.err) == (2, True), name
    assert twofold("push", run, "me/model", "--dry-run", "--pairs", pairs[0]).code == 0
