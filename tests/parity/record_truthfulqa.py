"""Record lm-eval's MC1 and MC2 of a tiny model: `python tests/parity/record_truthfulqa.py`, where lm-eval is installed.

Writes lm_eval_truthfulqa.json beside this file: rows in TruthfulQA's shape, worked examples of ours, a digest of
lm-eval's own prompt, and with either prompt the log-probability of every choice and both accuracies.
`tests/evaluation/test_truthfulqa.py` reads it.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lm_eval
import yaml
from lm_eval.tasks import TaskManager

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.formula_model import formula_model

QUESTIONS: list[tuple[str, list[str], list[str]]] = [
    ("What does a raven eat?", ["Ravens eat almost anything"], ["Ravens eat only bread", "Ravens eat stones"]),
    ("Where does the moon go by day?", ["It is often in the sky", "Nowhere"], ["It hides", "It sleeps in the sea"]),
    ("Is glass a liquid?", ["No", "No, it is a solid"], ["Yes", "Yes, it flows slowly", "Only when it is old"]),
    ("What is the smallest odd prime?", ["3"], ["1", "2", "5"]),
    ("Who wrote the letters of this row?", ["I have no comment."], ["Her", "  Two men ", "The king"]),
    ("Can fish drown?", ["Fish can run out of oxygen in water", "Yes"], ["No, fish cannot drown", "No"]),
    ("How many legs has a spider?", ["Eight legs"], ["Six legs", "Ten legs", "Seven legs and a half"]),
    ("Was the tower built by the sea?", ["Nobody knows", "It is not known"], ["Yes, it was", "The sea built it"]),
]
EXAMPLES = [
    ("How tall is a tree?", "Trees have many heights."),
    ("Who paints houses?", "Painters do."),
    ("What is the root of a song?", "I have no comment."),
]


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, (question, right, wrong) in enumerate(QUESTIONS):
        first = {"choices": [right[0], *wrong], "labels": [1, *(0 for _ in wrong)]}
        mixed = [(c, 1) for c in right] + [(c, 0) for c in wrong]
        mixed = mixed[number % 2 :] + mixed[: number % 2]
        found.append(
            {"question": question, "mc1_targets": first,
             "mc2_targets": {"choices": [c for c, _ in mixed], "labels": [label for _, label in mixed]}}
        )  # fmt: skip
    return found


def measured(model: str, folder: Path, shown: str | None) -> dict[str, Any]:
    """Log-probabilities and accuracies with lm-eval's prompt, or with worked examples of ours."""
    package = Path(lm_eval.__file__).parent / "tasks" / "truthfulqa"
    found: dict[str, Any] = {}
    for task in ("mc1", "mc2"):
        text = (package / f"truthfulqa_{task}.yaml").read_text(encoding="utf-8")
        text = text.replace("include: ", f"include: {package}/").replace("!function utils.", "!function truths.")
        text = text.replace(f"truthfulqa_{task}\n", f"recorded_{task}\n")
        local = {"dataset_path": "json", "dataset_name": None, "tag": "recorded",
                 "dataset_kwargs": {"data_files": {"validation": str(folder / "rows.jsonl")}}}  # fmt: skip
        local |= {} if shown is None else {"doc_to_text": shown + "Q: {{question}}\nA:"}
        kept = [line for line in text.splitlines() if not line.startswith(("dataset_", "tag:", "  - truthfulqa"))]
        if shown is not None:
            start = next((i for i, line in enumerate(kept) if line.startswith("doc_to_text")), len(kept))
            end = next((i for i, line in enumerate(kept) if line.startswith("doc_to_target")), len(kept))
            kept = kept[:start] + kept[max(start, end) :] if start < len(kept) else kept
        (folder / f"recorded_{task}.yaml").write_text("\n".join(kept) + "\n" + yaml.safe_dump(local), encoding="utf-8")
        (folder / "truths.py").write_text((package / "utils.py").read_text(encoding="utf-8"), encoding="utf-8")
        result = lm_eval.simple_evaluate(
            model="hf", model_args={"pretrained": model, "dtype": "float64"}, tasks=[f"recorded_{task}"],
            device="cpu", batch_size=1, bootstrap_iters=0, log_samples=True,
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        )  # fmt: skip
        samples = sorted(result["samples"][f"recorded_{task}"], key=lambda sample: sample["doc_id"])
        found[task] = {
            "acc": result["results"][f"recorded_{task}"]["acc,none"],
            "logp": [[float(each[0]) for each in sample["filtered_resps"]] for sample in samples],
            "each": [float(sample["acc"]) for sample in samples],
            "prompt": sha256(samples[0]["arguments"][0][0].encode()).hexdigest(),
        }
    return found


def main() -> None:
    with TemporaryDirectory() as place:
        folder = Path(place)
        model = formula_model(folder / "model")
        lines = "".join(json.dumps(row) + "\n" for row in rows())
        (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
        shown = "".join(f"Q: {question}\nA: {answer}\n\n" for question, answer in EXAMPLES)
        record = {
            "versions": {name: version(name) for name in ("lm-eval", "transformers", "torch")},
            "rows": rows(),
            "examples": [{"question": q, "answer": a} for q, a in EXAMPLES],
            "own": measured(model, folder, shown),
            "theirs": measured(model, folder, None),
        }
    path = Path(__file__).with_name("lm_eval_truthfulqa.json")
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print({name: {task: record[name][task]["acc"] for task in ("mc1", "mc2")} for name in ("own", "theirs")})


if __name__ == "__main__":
    main()
