"""The verbs in the groups of `twofold --help`, each with one line."""

from __future__ import annotations

PANELS = {
    "Train": {
        "demo": "align an embedded model with DPO and PDPO, in two minutes",
        "train": "train a model by a recipe",
        "tune": "try values in several recipes, at an equal budget",
        "import": "write a recipe from a TRL, axolotl or LLaMA-Factory file",
    },
    "Data": {
        "data": "check, show, report, build, label and merge data sets",
        "data check": "check rows, and write the clean ones",
        "data show": "show rows as the model will read them",
        "data report": "write a page on a data set",
        "data build": "make preferences from samples and a judge",
        "data label": "let people judge pairs in the browser",
        "data merge": "merge the shards of a command",
    },
    "Measure": {
        "evaluate": "measure models on the same items, with paired tests",
        "explain": "read a model token by token",
        "sample": "sample from a model, or search for its best completions",
        "score": "add scores of a reward model or a judge to rows",
        "power": "count the prompts that show a difference",
    },
    "Look at runs": {
        "report": "write the page of a run",
        "compare": "write one page of several runs",
        "watch": "follow a run in the terminal",
        "board": "follow all runs of a folder in the browser",
    },
    "Publish": {
        "export": "merge an adapter into its base model",
        "push": "publish a model with its card and results",
    },
    "This machine": {
        "doctor": "list what this machine has, and what is fast on it",
        "completion": "print the script that completes commands in a shell",
    },
}


def panel_of(verb: str, doc: str | None = None) -> tuple[str, str]:
    """The group of a verb (or of a word that several share), and its line; for one that no group lists, the start of
    its docstring."""
    listed = ((panel, lines[verb]) for panel, lines in PANELS.items() if verb in lines)
    return next(listed, ("More", (doc or "").partition(".")[0]))
