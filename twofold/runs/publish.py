"""Uploads a finished run or a model folder to the Hugging Face hub as one commit. Refuses files that hold a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from twofold import manifest
from twofold.client.hub import stay_local_if_cut_off
from twofold.errors import DataError, ModelError, ServerError
from twofold.models.locate import is_adapter, model_folder

OF_RUN = ("README.md", "results.json")
LEFT_OUT = (manifest.MANIFEST, ".cache", ".git", ".gitattributes")
TEXT = (".json", ".jsonl", ".jinja", ".md", ".model.json", ".txt", ".yaml", ".yml", ".py", ".csv", "")
SECRET_NAMES = re.compile(
    r"^\.|\.(pem|key|p12|pfx|env)$|^id_(rsa|dsa|ecdsa|ed25519)|credentials|secrets?\b", re.IGNORECASE
)
SECRETS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "an API key": re.compile(r"\b(sk-[A-Za-z0-9_-]{20,}|xox[abpr]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35})"),
    "a GitHub token": re.compile(r"\b(gh[opsu]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{20,})"),
    "an AWS key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in a URL": re.compile(r"\w://[^/\s:@\"']+:[^/\s:@\"']+@"),
}


@dataclass(frozen=True)
class Upload:
    """One file: its path in the repository, and the file here."""

    name: str
    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size


def plan(source: Path, pairs: Sequence[Path] = ()) -> list[Upload]:
    """The files to upload: the model, of a run its card and results, and `pairs` under data/.

    Raises ModelError where there is no model or a file changed since it was written, DataError where a file is missing,
    is a link, or holds a secret.
    """
    model = model_folder(source)
    for name, fault in manifest.faults(model).items():
        raise ModelError(
            fault, where=str(model / name), remedy="train or export again; a damaged model is not published"
        )
    uploads = [Upload(name, model / name) for name in _files(model)]
    if source != model:
        names = {upload.name for upload in uploads}
        uploads += [Upload(name, source / name) for name in OF_RUN if name not in names and (source / name).exists()]
    uploads += [Upload(f"data/{path.name}", path) for path in pairs]
    for upload in uploads:
        _refuse(upload)
        if twin := next((u for u in uploads if u.name == upload.name and u is not upload), None):
            what = f"has the same name on the hub as {twin.path}: {upload.name}"
            raise DataError(what, where=str(upload.path), remedy="rename one of them")
    return uploads


def refuse_odd_name(repository: str) -> None:
    """Raise ModelError for what cannot be the name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ModelError("is no name of a repository", where=repository, remedy="write OWNER/NAME") from error


def push(uploads: Sequence[Upload], repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload all files as one commit and return its address. The token is huggingface_hub's: `hf auth login`, HF_TOKEN.

    Raises ServerError where the hub cannot be reached or refuses.
    """
    refuse_odd_name(repository)
    stay_local_if_cut_off()
    from httpx2 import HTTPError
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    hub = HfApi(library_name="twofold")
    operations = [CommitOperationAdd(path_in_repo=upload.name, path_or_fileobj=str(upload.path)) for upload in uploads]
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        commit = hub.create_commit(repository, operations, commit_message=message or "Upload with twofold")
    except (LocalTokenNotFoundError, OfflineModeIsEnabled) as error:
        raise ServerError(_line(error), where=repository, remedy="log in with `hf auth login`, online") from error
    except HfHubHTTPError as error:
        remedy = "check the name, and that your token may write there (`hf auth whoami`)"
        raise ServerError(_line(error), where=repository, remedy=remedy) from error
    except (HTTPError, OSError) as error:
        raise ServerError(f"the hub was not reached: {_line(error)}", where=repository, remedy="try again") from error
    return str(commit.commit_url)


def kind(source: Path) -> str:
    """The kind of what is published: a model or an adapter."""
    return "adapter" if is_adapter(model_folder(source)) else "model"


def _files(model: Path) -> list[str]:
    """The files of a model folder, without the files of a download or of git."""
    paths = [path.relative_to(model) for path in sorted(model.rglob("*")) if not path.is_dir() or path.is_symlink()]
    return [p.as_posix() for p in paths if p.parts[0] not in LEFT_OUT]


def _refuse(upload: Upload) -> None:
    """Raise DataError for what must not be published."""
    where = str(upload.path)
    if upload.path.is_symlink() or not upload.path.is_file():
        raise DataError("is no plain file", where=where, remedy="move it out of the folder, or copy it there")
    if SECRET_NAMES.search(upload.path.name):
        raise DataError("has the name of a file with secrets", where=where, remedy="move it out of the folder")
    for line, what in _secrets(upload.path):
        raise DataError(f"holds {what}", where=f"{where}:{line}", remedy="take it out, and revoke it if it was shared")


def _secrets(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix.lower() not in TEXT:
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            yield from ((number, what) for what, pattern in SECRETS.items() if pattern.search(line))


def _line(error: Exception) -> str:
    """The first line of a library's error."""
    return " ".join(str(error).split("\n")[0].split())[:200] or type(error).__name__
