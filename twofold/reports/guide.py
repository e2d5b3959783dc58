"""What a page offers a reader next to its figures: a glossary, what to do next, and where the docs explain more."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from twofold.reports.languages import phrase
from twofold.reports.provenance import base_model
from twofold.reports.run import RunData, mapping

DOCUMENTATION = "documentation"
"""The label of the docs among the package's URLs."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, what it is for, and the page of the docs on it."""

    command: str
    purpose: str
    page: str


# Term, meaning, page of the docs. English is the key of the Chinese in zh.yaml.
GLOSSARY = (
    ("base", "The model before training.", "models.md"),
    ("policy", "The model that is trained.", "glossary.md"),
    ("reference", "The model that the policy is compared with, usually its own first weights.", "references.md"),
    ("chosen, rejected", "The preferred completion of a pair, and the other one.", "data.md"),
    ("implicit reward", "β times the log-ratio of policy to reference: what DPO trains.", "dpo-in-pictures.md"),
    ("margin", "The implicit reward of chosen minus that of rejected.", "dpo-in-pictures.md"),
    ("preference accuracy", "The share of pairs with a positive margin.", "evaluation.md"),
    ("held-out", "Rows that were not trained on.", "data.md"),
    ("log-probability", "How likely a model finds a completion, in nats. Near 0 is likely.", "glossary.md"),
    ("KL", "How far the policy moved from the reference, in nats.", "frontier.md"),
    ("strict, flexible", "The answer has the required form; only its last number is correct.", "evaluation.md"),
    ("95% interval", "A range that covers the true value in 95 of 100 repetitions.", "evaluation.md"),
    ("McNemar’s test", "A paired test: it counts the items that only one of two models solves.", "evaluation.md"),
    ("p", "How often a difference at least as large occurs by chance.", "evaluation.md"),
    ("Holm’s correction", "Raises p when several tests are made at once.", "evaluation.md"),
    ("gap", "Of PDPO: the ground truth’s implicit reward minus that of a sample.", "pdpo.md"),
    ("displacement", "Chosen becomes less likely while its margin grows.", "likelihood-displacement.md"),
    ("smoothing", "The mean over neighboring points; the share is that of all points.", "reports.md"),
)  # fmt: skip


FURTHER_TERMS = (
    ("credit", "A token’s share of its completion’s implicit reward. Negative credit is called blame.", "explain.md"),
    ("log-ratio", "The log-probability of the policy minus that of the reference.", "glossary.md"),
    ("gradient weight", "How strongly a pair is still pushed: under DPO σ(−margin).", "dpo-in-pictures.md"),
    ("length bias", "How often the longer answer is chosen, where the two differ in length.", "data-check.md"),
    ("score margin", "The score of chosen minus that of rejected, where rows have scores.", "data-check.md"),
    ("near-duplicates", "Rows that have most of their word triples in common.", "data-check.md"),
    ("error, warning", "Training stops at an error. A warning is a row that deserves a look.", "data-check.md"),
)
EXPLAIN_TERMS = (
    "policy", "reference", "chosen, rejected", "log-ratio", "implicit reward", "credit", "margin", "displacement", "KL",
    "gradient weight", "95% interval",
)  # fmt: skip
DATA_TERMS = ("chosen, rejected", "length bias", "score margin", "near-duplicates", "error, warning", "95% interval")


@cache
def docs() -> str:
    """Where the docs are: the package's documentation URL, else the folder of a source checkout, else empty."""
    try:
        told = metadata.metadata("twofold").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        told = []
    urls = {label.strip().lower(): url.strip() for label, _, url in (line.partition(",") for line in told)}
    if url := urls.get(DOCUMENTATION, ""):
        return url.rstrip("/")
    folder = Path(__file__).parents[2] / "docs"
    return folder.as_uri() if (folder / "nav.yaml").is_file() else ""


def address(page: str) -> str:
    """The address of a page of the docs (`pdpo.md`), on the web as HTML; empty where there are none."""
    root = docs()
    if not root or root.startswith("file:"):
        return root and f"{root}/{page}"
    return f"{root}/{page.removesuffix('.md')}.html"


def next_steps(runs: Sequence[RunData]) -> list[Step]:
    """What a reader of a page on `runs` may do next, most useful first."""
    return [step for step in (*_of_one(runs[-1]), *_of_all(runs)) if step]


def _of_one(run: RunData) -> Iterator[Step]:
    name, results = shlex.quote(str(run.path)), run.results
    data = mapping(run.settings.get("data"))
    pairs = next((str(data[k]) for k in ("heldout", "train") if isinstance(data.get(k), str)), "PAIRS.jsonl")
    if results.step is None and not results.models:
        yield Step(f"twofold watch {name}", phrase("watch it while it trains"), "reports.md")
        resume = phrase("resume it from its last checkpoint if it was stopped")
        yield Step(f"twofold train {name}/resolved.yaml", resume, "resume.md")
        return
    if not results.models and not results.reward:
        base = shlex.quote(base_model(run) or "BASE")
        yield Step(
            f"twofold evaluate {base} {name} --task TASK", phrase("measure what it gained on problems"), "evaluation.md"
        )
    if "explain" not in run.extra and not results.reward:
        line = f"twofold explain {name} {shlex.quote(pairs)} --json {name}/explain.json"
        yield Step(line, phrase("see token by token what it learned; the report shows it too"), "explain.md")
    yield Step(
        f"twofold sample {name} --prompt 'YOUR PROMPT'", phrase("read answers of your own prompts"), "sampling.md"
    )
    yield Step(f"twofold export {name} FOLDER", phrase("get a plain Hugging Face folder"), "publishing.md")
    yield Step(f"twofold push {name} OWNER/NAME --dry-run", phrase("see what would be published"), "publishing.md")


def _of_all(runs: Sequence[RunData]) -> Iterator[Step]:
    last = runs[-1]
    seed = last.settings.get("seed", 0)
    again = f"seed={seed + 1 if isinstance(seed, int) else 1}"
    name = shlex.quote(str(last.path))
    luck = phrase("see how much is the luck of the seed")
    yield Step(
        f"twofold train {name}/resolved.yaml {again} run={name}-{again.replace('=', '-')}", luck, "evaluation.md"
    )
    if len(runs) == 1:
        yield Step(f"twofold compare {name} RUN", phrase("compare it with another run, by paired tests"), "reports.md")


def after_explanation(model: str, file: str, *, is_run: bool, drift: bool) -> list[Step]:
    """What a reader of a page of `twofold explain` may do next."""
    explain = f"twofold explain {shlex.quote(model)} {shlex.quote(file)}"
    steps = [Step(f"{explain} --json all.json", phrase("get every row and token as numbers"), "explain.md")]
    if not drift:
        own = phrase("let both models answer 100 of the prompts, and compare their styles")
        steps.append(Step(f"{explain} --drift 100 --html explain.html", own, "explain.md"))
    if is_run:
        steps.append(Step(f"twofold report {shlex.quote(model)}", phrase("see how it was trained"), "reports.md"))
    line = f"twofold sample {shlex.quote(model)} --prompt 'YOUR PROMPT'"
    return [*steps, Step(line, phrase("read answers of your own prompts"), "sampling.md")]


def after_data_report(source: str, *, ok: bool) -> list[Step]:
    """What a reader of a page of `twofold data report` may do next."""
    name = shlex.quote(source)
    every = phrase("list every fault with its row, for a script that corrects or removes them")
    steps = [Step(f"twofold data check {name} --json", every, "data-check.md")]
    if ok:
        seen = phrase("see rows as the model will see them: template, supervised tokens, stop tokens")
        steps.append(Step(f"twofold data show {name} --model MODEL", seen, "data.md"))
        dry = phrase("check a recipe with this data, without training")
        steps.append(Step(f"twofold train RECIPE data.train={name} --dry-run", dry, "recipe.md"))
    return steps


def glossary(names: Sequence[str] = ()) -> list[Mapping[str, str]]:
    """Terms with their meanings and pages: those of a run's report, or those of `names`."""
    terms = {term: (meaning, page) for term, meaning, page in (*GLOSSARY, *FURTHER_TERMS)}
    wanted = names or [term for term, _, _ in GLOSSARY]
    return [{"term": phrase(t), "meaning": phrase(terms[t][0]), "page": terms[t][1]} for t in wanted]
