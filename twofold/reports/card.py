"""The model card: README.md of a run, with its metrics, their intervals, and how they were measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from twofold.reports import provenance, tables
from twofold.reports.findings import findings, review
from twofold.reports.pages import clip, environment, write_page
from twofold.reports.run import RunData, read_run
from twofold.reports.significance import all_tests

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
TAGLESS = re.compile(r"[^\w.:/-]+")
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!$])")


def write_card(run: Path) -> Path:
    """Write README.md into the run directory `run` and return its path."""
    return write_page(run / "README.md", render_card(read_run(run)))


def render_card(run: RunData) -> str:
    """The card as Markdown with Hugging Face's YAML front matter; every text of the run is escaped."""
    templates = environment(escape=False)
    templates.filters |= {"text": plain, "code": fenced}
    return templates.get_template("card.md.jinja").render(
        front=yaml.safe_dump(front_matter(run), sort_keys=False, allow_unicode=True, width=1000).strip(),
        run=run,
        findings=findings([run]),
        entries=tables.entries([run.results]),
        tests=all_tests([run]),
        heldout=run.results.heldout,
        reward=run.results.reward,
        training=tables.watched(run.results),
        review=review([run], [run.name]),
        adapter=_is_adapter(run),
        facts=provenance.facts(run),
        data=provenance.data_hashes(run),
        command=provenance.command(run),
        repeat=provenance.repeat(run),
    )


def front_matter(run: RunData) -> dict[str, Any]:
    """The metadata for the Hub. `base_model` is included only if it is a Hub name, not a local folder."""
    base, adapter = provenance.base_model(run), _is_adapter(run)
    kinds = dict.fromkeys(k for k in (provenance.kind(run, "objective"), provenance.kind(run, "algorithm")) if k)
    what = "text-classification" if run.results.reward else "text-generation"
    front: dict[str, Any] = {"library_name": "peft" if adapter else "transformers", "pipeline_tag": what}
    if HUB_NAME.fullmatch(base) and not Path(base).exists():
        front |= {"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"}
    front["tags"] = ["twofold", "alignment", *(TAGLESS.sub("-", kind)[:60] for kind in kinds)]
    if any(m in e.estimates for e in run.results.models for m in tables.METRICS):
        front["metrics"] = ["exact_match"]
    return front | model_index(run, what)


def model_index(run: RunData, task: str) -> dict[str, Any]:
    """The final metrics of the trained model in the Hub's `model-index` format, without the base model's."""
    figures = [
        (name, e)
        for entry in tables.entries([run.results])
        if entry.run is not None
        for name, e in entry.estimates.items()
    ]
    groups = {"evaluation": figures, "held-out pairs": list(run.results.heldout.items())}
    results = [
        {
            "task": {"type": task},
            "dataset": {"name": data, "type": data.replace(" ", "-")},
            "metrics": [
                {"type": name, "value": e.value, "name": f"{name}, n {e.n}, 95% interval {e.low:.4g} to {e.high:.4g}"}
                for name, e in measured
            ],
        }
        for data, measured in groups.items()
        if measured
    ]
    return {"model-index": [{"name": " ".join(clip(run.name, 120).split()), "results": results}]} if results else {}


def plain(text: str, limit: int = 400) -> str:
    """`text` on one line, without active Markdown or HTML; a URL is plain text."""
    line = " ".join(clip(text, limit).split()).replace("://", ":\u200b//")
    return SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def fenced(text: str, limit: int = 20_000) -> str:
    """`text` as a code block whose fence is longer than any run of backticks in it."""
    kept = clip(text, limit).rstrip()
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", kept)), default=0))
    return f"{fence}\n{kept}\n{fence}"


def _is_adapter(run: RunData) -> bool:
    return (run.path / "model" / "adapter_config.json").is_file()
