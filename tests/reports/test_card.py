"""The model card holds the measured figures, true origins, and no markup of anyone else's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from support.made_up_runs import DIGEST, Make
from twofold.reports.card import fenced, front_matter, plain, write_card
from twofold.reports.run import read_run


def split(card: Path) -> tuple[dict[str, object], str]:
    _, front, body = card.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_card_says_what_was_measured(make_run: Make) -> None:
    run = make_run("demo", extra={"gap": 0.1})
    card = write_card(run)
    front, body = split(card)
    assert card == run / "README.md"
    (index,) = front.pop("model-index")
    evaluation, heldout = index["results"]
    assert evaluation["metrics"][0] == {
        "type": "strict",
        "value": 0.75,
        "name": "strict, n 40, 95% interval 0.5981 to 0.8581",
    }
    assert heldout["dataset"] == {"name": "held-out pairs", "type": "held-out-pairs"}
    assert front == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "base_model": "acme/base-1",
        "base_model_relation": "finetune", "tags": ["twofold", "alignment", "dpo", "pdpo"], "metrics": ["exact_match"],
    }  # fmt: skip
    assert list(front)[:3] == ["library_name", "pipeline_tag", "base_model"]  # in this order, not by letters
    assert "| base | strict | **25.0%** (14.2 – 40.2%) | 40 |" in body
    assert "| policy | strict | **75.0%** (59.8 – 85.8%) | 40 |" in body
    assert "+50.0 points over the base" in body
    assert "| accuracy | **80.0%** (77.4 – 82.4%) | 1000 |" in body
    assert "| margin | **4** (1.52 … 6.48) | 3 |" in body
    assert f"| pairs.jsonl | {DIGEST} |" in body
    assert "```\ntwofold train demo.yaml\n```" in body
    assert "beta: 0.1" in body


def test_a_base_in_a_folder_is_no_name_of_the_hub(make_run: Make) -> None:
    run = make_run("demo")
    for path in (str(run), "./base", "C:\\base", "base"):
        (run / "resolved.yaml").write_text(yaml.safe_dump({"model": {"path": path}}))
        assert "base_model" not in front_matter(read_run(run))


def test_an_adapter_says_so(make_run: Make) -> None:
    run = make_run("demo")
    (run / "model").mkdir()
    (run / "model" / "adapter_config.json").write_text("{}")
    front, body = split(write_card(run))
    assert (front["library_name"], front["base_model_relation"]) == ("peft", "adapter")
    assert "A PEFT adapter" in body


def test_an_empty_run_has_a_card(tmp_path: Path) -> None:
    front, body = split(write_card(tmp_path))
    assert front == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["twofold", "alignment"],
    }  # fmt: skip
    assert "No final results were measured." in body


HOSTILE = ["<script>alert(1)</script>", "a|b\n---\n# c", "[x](https://evil.example)", "```\n# d"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_stay_texts(make_run: Make, hostile: str) -> None:
    run = make_run("demo")
    results = json.loads((run / "results.json").read_text())
    results |= {"name": hostile, "command": hostile, "warnings": [hostile]}
    results["models"][1]["name"] = hostile
    (run / "results.json").write_text(json.dumps(results))
    (run / "resolved.yaml").write_text(yaml.safe_dump({"objective": {"kind": hostile}}))
    front, body = split(write_card(run))
    assert isinstance(front["tags"], list)
    assert len(front["tags"]) == 3
    outside, fence = [], ""
    for line in body.split("\n"):
        if line.startswith("```") and (not fence or line == fence):
            fence = "" if fence else line
        elif not fence:
            outside.append(line)
    assert fence == ""
    text = "\n".join(outside)
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(|://", text)
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in outside if " | strict | " in row] == [5, 5]
    assert [line for line in outside if line.startswith("# ")] == [f"# {plain(hostile, 120)}"]


def test_plain_and_fenced() -> None:
    assert plain("a|b\n<c> *d* &") == "a\\|b &lt;c&gt; \\*d\\* &amp;"
    assert fenced("x ``` y") == "````\nx ``` y\n````"
