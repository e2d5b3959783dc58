"""The navigation of the site, and its generated pages: command line, Python names, gallery of recipes.

`scripts/make_site.py` builds the site of them; tests read them without it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ROOMS = {
    "runs": "Training",
    "config": "Recipes",
    "records": "Rows",
    "data": "Data",
    "models": "Models",
    "batch": "What an objective reads",
    "objectives": "What an objective returns",
    "sampling": "Sampling",
    "evaluation": "Evaluation",
    "analysis": "Analysis",
    "reports": "Reports",
    "statistics": "Statistics",
    "errors": "Errors",
}
"""Rooms with public names, in the order of the page."""
FOLDERS = {
    ".": ("Experiments", "Whole experiments on GSM8K, and small ones of the same kind."),
    "models": ("Published models", "Popular models and data sets, with the [memory](model-recipes.md) of each."),
    "objectives": (
        "Objectives",
        "One for each objective. All share `base.yaml`, so that two methods differ in nothing else.",
    ),
    "pdpo": ("PDPO", "One for each option of [PDPO](pdpo.md)."),
    "policy_gradient": ("Policy gradient", "Training on [rewards](policy-gradient.md) instead of preferences."),
    "online": ("Online preferences", "The model's own samples, judged while it trains ([page](online.md))."),
    "references": ("References", "What the policy is [compared with](references.md)."),
    "papers": ("Papers", "Settings of published experiments."),
    "tune": ("Tuning", "A tune file, and the recipe that it tries values in ([page](tune.md))."),
}
"""Folders of recipes: a title and a sentence."""


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts and the site make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


Pages: TypeAlias = "dict[str, Pages]"
"""Pages in their order, each with those below it."""


def navigation() -> dict[str, Pages]:
    """The sections of docs/nav.yaml with their pages, folders written out."""
    sections = yaml.safe_load((DOCS / "nav.yaml").read_text(encoding="utf-8"))
    written = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    named = set(re.findall(r"[\w./-]+\.md", (DOCS / "nav.yaml").read_text(encoding="utf-8")))

    def pages(entries: Iterable[Any]) -> Pages:
        below: Pages = {}
        for entry in entries:
            if isinstance(entry, dict):
                below |= {page: pages(inner) for page, inner in entry.items()}
            elif entry.endswith("/"):
                below |= {page: {} for page in written if page.startswith(entry) and page not in named}
            else:
                below[entry] = {}
        return below

    return {section: pages(entries) for section, entries in sections.items()}


def listed(pages: Pages) -> Iterator[str]:
    """All pages in their order."""
    for page, below in pages.items():
        yield page
        yield from listed(below)


def command_line() -> str:
    """Every verb's `--help`, as one page."""
    import typer

    from twofold.cli.main import VERBS, app

    lines = [
        "# Command line\n",
        "Generated from the verbs' own `--help`. A setting is written `KEY=VALUE`, an option `--name VALUE`.\n",
    ]
    top = typer.main.get_command(app)
    for verb in VERBS:
        command: Any = top
        context = command.context_class(command, info_name="twofold")
        for word in verb.split():
            command = command.commands[word]
            context = command.context_class(command, info_name=word, parent=context)
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        lines += [f"\n## twofold {verb}\n", f"{_paragraphs(command.help)}\n", f"```\n{usage}\n```\n"]
        records = [record for param in command.get_params(context) if (record := _option(param, context))]
        lines += ["| argument or option | what it does |", "|---|---|"]
        lines += [f"| {_code(name)} | {_cell(text)} |" for name, text in records]
    return "\n".join(lines) + "\n"


def _option(param: Any, context: Any) -> tuple[str, str] | None:
    record = param.get_help_record(context)
    return (record[0], record[1]) if record else None


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


def _code(text: str) -> str:
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def _cell(text: str) -> str:
    text = " ".join(text.split())
    extras = re.fullmatch(r"(.*?)\s*\[((?:default: |required|x[<>])[^\[\]]*)\]", text)
    return (f"{extras[1]} ({extras[2]})" if extras else text).replace("|", "\\|")


def python_names() -> str:
    """Every public name with its docstring, by room; autodoc fills it in."""
    import twofold

    public = vars(twofold)["_homes"]()
    homes: dict[str, str] = {name: home for name, home in public.items() if not name.startswith("_")}
    lines = [
        "# Python\n",
        "Every name below is `twofold.NAME`. `import twofold` is instant: a name is loaded when it is first used.\n",
    ]
    rooms: dict[str, list[str]] = {}
    for name, home in homes.items():
        if name not in _union(homes):
            rooms.setdefault(home.split(".")[1], []).append(f"twofold.{name}")
    for room in [*ROOMS, *sorted(set(rooms) - set(ROOMS))]:
        lines += [f"\n## {ROOMS.get(room, room)}\n", "```{eval-rst}", *map(_documented, rooms.get(room, [])), "```"]
    lines += [
        "\n## Objectives and algorithms\n",
        "Settings of each are keys of a recipe, and arguments here: `twofold.DPO(beta=0.05)`.\n",
    ]
    lines += ["| name | page |", "|---|---|"]
    lines += [f"| `twofold.{name}` | [{page}]({page}) |" for name, page in _union(homes).items()]
    return "\n".join(lines) + "\n"


def _documented(path: str) -> str:
    """The directive for a name: a function, or a class with what its own body documents."""
    is_class = path.rpartition(".")[2][0].isupper()
    return f".. autoclass:: {path}\n   :members:\n" if is_class else f".. autofunction:: {path}\n"


def _union(homes: dict[str, str]) -> dict[str, str]:
    """The settings classes of objectives and algorithms, and the page of each."""
    pages: dict[str, str] = {}
    for name, home in homes.items():
        kind = re.search(rf'^class {name}\b.*?^    kind: Literal\["(\w+)"\]', _source(home), re.DOTALL | re.MULTILINE)
        if kind and home.startswith("twofold.objectives."):
            pages[name] = f"objectives/{kind[1]}.md"
        elif kind and home.startswith("twofold.algorithms."):
            page = {"offline": "family", "policy_gradient": "policy-gradient"}.get(kind[1], kind[1])
            pages[name] = f"{page}.md"
    return pages


def _source(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def recipes() -> list[str]:
    """The recipes by their paths below recipes/: those of no folder first."""
    paths = [path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")]
    return sorted(paths, key=lambda path: ("/" in path, path))


def gallery() -> str:
    """Every recipe with its opening comment."""
    lines = [
        "# Gallery of recipes\n",
        "Every file of `recipes/`, whole. Take one, change `model.path` and `data.train`, and run it:\n",
    ]
    lines += ["```\ntwofold train recipes/objectives/dpo.yaml model.path=MODEL data.train=pairs.jsonl --dry-run\n```\n"]
    folder = None
    for path in recipes():
        if (now := posixpath.dirname(path) or ".") != folder:
            folder = now
            title, sentence = FOLDERS.get(folder, (folder.replace("_", " ").capitalize(), ""))
            lines.append(f"\n## {title}\n\n{sentence}\n")
        comment, body = _parted((ROOT / "recipes" / path).read_text(encoding="utf-8"))
        lines.append(f"\n### {path}\n\n{comment}\n\n```yaml\n{body}\n```\n")
    return "\n".join(lines)


def _parted(text: str) -> tuple[str, str]:
    """A recipe's opening comment as Markdown, and the rest."""
    lines = text.strip().split("\n")
    count = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:count])
    return re.sub(r"(?m)(?:^ {2,}\S.*\n?)+", _fenced, comment), "\n".join(lines[count:])


def _fenced(match: re.Match[str]) -> str:
    return "\n```\n" + "\n".join(line.strip() for line in match[0].strip("\n").split("\n")) + "\n```\n"


GENERATED: dict[str, Callable[[], str]] = {"cli.md": command_line, "api.md": python_names, "gallery.md": gallery}
"""Pages that every build generates."""


def for_site(text: str, page: str, repository: str = "") -> str:
    """A page of docs/ as the site's Markdown: named code blocks, and links that leave docs/.

    A recipe is shown in the gallery; any other file is linked where the repository has an address, else only named."""
    parts = re.split(r"(^```.*?^```[ ]*$)", text, flags=re.DOTALL | re.MULTILINE)
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = re.sub(
                r"\A```(\w+) (\S+)$", r"```{code-block} \1\n:caption: \2\n", part, count=1, flags=re.MULTILINE
            )
            parts[number] = re.sub(r"\A(```(?:\{code-block\} )?)jsonl$", r"\1json", parts[number], flags=re.MULTILINE)
        else:
            parts[number] = re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", lambda link: _link(link, page, repository), part)
    return "".join(parts)


def _link(link: re.Match[str], page: str, repository: str) -> str:
    base = posixpath.dirname(page)
    path = posixpath.normpath(posixpath.join("docs", base, link[2]))
    if "://" in link[2] or link[2].startswith("#") or path.startswith("docs/") or not (ROOT / path).exists():
        return link[0]
    if path.startswith("recipes/") and path.endswith(".yaml"):
        return f"[{link[1]}]({posixpath.relpath('gallery.md', base or '.')}#{slug(path.removeprefix('recipes/'))})"
    return f"[{link[1]}]({repository}/blob/main/{path})" if repository else link[1]
