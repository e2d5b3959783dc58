"""Refuse words that docs/style.md replaces, in Markdown outside code and in Python comments, docstrings, messages."""

from __future__ import annotations

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

STEMS = (
    "emphas|equal|factor|final|general|initial|local|maxim|memor|minim|normal|optim|organ|parallel|penal|quant|random|"
    "real|recogn|regular|serial|special|standard|summar|synchron|token|util|visual"
)
# What to avoid, as a regular expression of whole words, and what to write instead.
WORDS = {
    r"stands?|stood": "is, is in, is shown",
    r"told|tells?": "report, show, print; distinguish",
    r"says?|said": "report, show, state, mean; generate (of a model)",
    r"(go|goes|went|gone|going) on": "continue, resume",
    r"whom?ever": "users who, any code that",
    r"beside": "next to, along with, compared with",
    r"lies?|lay": "is, is in",
    r"anew": "again",
    r"alone": "only",
    r"(?<!ground )(?<!ground-)truths?": "reference answer, ground truth",
    r"drafts?": "sample, completion (a draft is PDPO's)",
    r"(so|thus) many": "this many, the number of",
    r"mend(s|ed|ing)?": "fix",
    r"led": "moved toward, guided",
    r"brings?|brought": "has, provides, contains",
    r"handed|hands? (on|over)": "pass",
    r"takes? the place of|in (the )?place of": "replaces, instead of",
    r"till": "until",
    r"for ever": "forever",
    r"learnt|burnt|spelt": "learned, burned, spelled",
    r"(?<!statistically )(?<!not )significant(?! digits?| figures?)": "statistically significant",
    r"\w*(avour|olour|ehaviour|eighbour|onour)\w*": "American spelling: -or",
    rf"({STEMS})is(e[sdr]?|ers|ing|ations?)": "American spelling: -ize",
    r"(label|model|cancel|travel|signal|total|equal)l(ed|ing|er)": "American spelling: one l",
    r"centre[ds]?|centring|grey|artefacts?|catalogues?|licence|judgements?|analyse[ds]?|analysing": "American spelling",
}  # fmt: skip
ROOTS = ("README.md", "CONTRIBUTING.md", "docs", "launch", "twofold")
EXEMPT = ("docs/style.md",)  # it names them
SENT = ("where N is the number alone",)  # prompts of models: another wording would change published figures
# PDPO generates drafts; its pages, settings and metrics keep the word, and so does the page of all settings.
DRAFTS = ("pdpo", "draft", "gates", "recipe.md")

_REFUSED = re.compile("|".join(rf"(?P<w{n}>\b(?:{word})\b)" for n, word in enumerate(WORDS)), re.IGNORECASE)
_CODE = re.compile(  # or the title of a paper, which is cited as it is
    r"```.*?```|``[^`]+``|`[^`\n]+`|\]\([^)]*\)|<[^>\n]+>|\"[^\"]+\",\s(?=arXiv:|\S+/)", re.DOTALL
)
_FIELD = re.compile(r"\{[^{}]*\}")  # of an f-string, which Python 3.11 reads whole
_TEXT = {"COMMENT", "STRING", "FSTRING_MIDDLE"}


def faults(path: Path) -> Iterator[str]:
    """Each refused word of one file, as `file:line: word → what to write`."""
    named_for_drafts = any(part in path.as_posix() for part in DRAFTS)
    for line, text in prose(path):
        for match in _REFUSED.finditer(text):
            word, instead = match[0], list(WORDS.values())[int(str(match.lastgroup)[1:])]
            if not (named_for_drafts and word.lower().startswith("draft")):
                yield f"{path}:{line + text.count(chr(10), 0, match.start())}: {word} → {instead}"


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The passages of a file that people read, each with its first line; code is blank."""
    if path.suffix == ".md":
        yield 1, _without_code(path.read_text(encoding="utf-8"))
        return
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if tokenize.tok_name[token.type] in _TEXT and " " in token.string.strip():
                formatted = "f" in token.string.partition('"')[0].lower()
                yield token.start[0], _without_code(_FIELD.sub("", token.string) if formatted else token.string)


def _without_code(text: str) -> str:
    for prompt in SENT:
        text = text.replace(prompt, " " * len(prompt))
    return _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)


def main(roots: list[str]) -> int:
    """Print every refused word under `roots`; the exit status is 1 where there is one."""
    paths = [path for root in map(Path, roots) for path in ([root] if root.is_file() else sorted(root.rglob("*")))]
    paths = [p for p in paths if p.suffix in (".md", ".py") and p.as_posix() not in EXEMPT]
    refused = [fault for path in paths for fault in faults(path)]
    print("\n".join([*refused, f"words: {len(refused)} to replace in {len(paths)} files"]))
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ROOTS)))
