"""What the verbs do, on a tiny random model and on files made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

Run = Callable[..., Any]


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    return lines(tmp_path / "test.jsonl", *({"question": f"{n} + 1 = ", "answer": f"#### {n + 1}"} for n in range(6)))


def test_doctor_says_what_there_is(twofold: Run) -> None:
    answer = twofold("doctor", "--json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert set(found) == {
        "python", "packages", "processor", "threads", "omp_wait_policy", "memory_gib", "disk_free_gib", "gpu", "device",
        "precision", "bfloat16_speedup", "paths",
    }  # fmt: skip
    assert found["packages"]["torch"] == torch.__version__
    assert found["bfloat16_speedup"] > 0
    assert "precision auto: " in twofold("doctor").out


def test_data_check_passes_good_rows(twofold: Run, tmp_path: Path) -> None:
    path = lines(tmp_path / "good.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    answer = twofold("data", "check", path)
    assert answer.code == 0
    assert "1 row, 1 usable" in answer.out
    assert answer.out.rstrip().endswith("no faults")


def test_data_check_names_row_field_and_remedy(twofold: Run, tmp_path: Path) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path = lines(tmp_path / "bad.jsonl", good, {"prompt": "d", "chosen": None, "rejected": "c"})
    answer = twofold("data", "check", path, "--json")
    assert answer.code == 2
    (fault,) = json.loads(answer.out)["sources"][0]["faults"]
    assert (fault["row"], fault["field"], fault["severity"]) == (2, "chosen", "error")
    shown = twofold("data", "check", path)
    assert shown.code == 2
    assert fault["remedy"] in shown.out


def test_data_check_lets_warnings_pass(twofold: Run, tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    answer = twofold("data", "check", lines(tmp_path / "twice.jsonl", row, row))
    assert answer.code == 0
    assert "0 errors, 1 warning" in answer.out


def test_data_check_asks_the_tokenizer(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    path = lines(tmp_path / "long.jsonl", {"prompt": "a" * 40, "chosen": "b", "rejected": "c"})
    answer = twofold("data", "check", path, "--model", model_folder, "--max-length", "10", "--json")
    (fault,) = json.loads(answer.out)["sources"][0]["faults"]
    assert fault["reason"] == "has 42 tokens, max_length is 10"


def test_data_check_of_a_file_that_is_not_there(twofold: Run, tmp_path: Path) -> None:
    answer = twofold("data", "check", tmp_path / "none.jsonl")
    assert answer.code == 2
    assert "no such file" in answer.out


def test_sample_writes_drafts_that_repeat(twofold: Run, tmp_path: Path, model_folder: Path, tasks: Path) -> None:
    written = []
    for name in ("a.jsonl", "b.jsonl"):
        answer = twofold(
            "sample", model_folder, "--file", tasks, "-n", 2, "--out", tmp_path / name, "max_new_tokens=5", "seed=3"
        )
        assert answer.code == 0, answer.err
        written.append((tmp_path / name).read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in written[0].splitlines()]
    assert written[0] == written[1]
    assert [row["sample"] for row in rows] == [0, 1] * 6
    assert rows[0]["prompt"] == "0 + 1 = "
    assert rows[0]["completion"] != rows[1]["completion"]
    assert all(1 <= row["tokens"] <= 5 for row in rows)


def test_sample_prints_a_greedy_draft(twofold: Run, model_folder: Path) -> None:
    answer = twofold("sample", model_folder, "--prompt", "[red]one", "temperature=0", "max_new_tokens=3")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("[red]one\n[0] 3 tokens, truncated, logp -")
    assert "greedy, at most 3 new tokens" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "x", "temperatur=1"], "did you mean `temperature`?"),
        (["--prompt", "x", "temperature=-1"], "temperature: must be ≥ 0"),
        (["--prompt", "x", "seed=x"], "override `seed=x`: seed: should be a valid integer"),
        ([], "give either --prompt or --file"),
    ],
)
def test_sample_refuses_what_it_cannot_mean(twofold: Run, model_folder: Path, arguments: list[str], said: str) -> None:
    answer = twofold("sample", model_folder, *arguments)
    assert answer.code == 2
    assert said in answer.err


def test_a_model_that_is_not_there_is_named(twofold: Run, tmp_path: Path) -> None:
    answer = twofold("sample", tmp_path / "none", "--prompt", "x")
    assert answer.code == 2
    assert f"error: {tmp_path}/none" in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) <= 10


def test_evaluate_compares_models_on_the_same_problems(
    twofold: Run, tmp_path: Path, model_folder: Path, adapter: Path, tasks: Path
) -> None:
    figures = tmp_path / "figures.json"
    answer = twofold(
        "evaluate", model_folder, adapter, "--tasks", tasks, "--limit", 4, "--max-new-tokens", 4, "--json", figures
    )
    assert answer.code == 0, answer.err
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert [m["name"] for m in found["models"]] == [str(model_folder), str(adapter)]
    assert found["tasks"]["n"] == 4
    assert all(m["strict"]["n"] == m["flexible"]["n"] == 4 for m in found["models"])
    assert [(c["metric"], c["n"]) for c in found["comparisons"]] == [("strict", 4), ("flexible", 4), ("math", 4)]
    assert found["comparisons"][0]["only_a"] == 0
    assert found["comparisons"][0]["p_value"] == 1
    assert "McNemar" in answer.out


def test_evaluate_wants_problems_with_answers(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    pairs = lines(tmp_path / "pairs.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"})
    answer = twofold("evaluate", model_folder, "--tasks", pairs)
    assert (answer.code, "requires problems with answers" in answer.err) == (2, True)


def test_evaluate_samples_for_pass_at_k(
    twofold: Run, tmp_path: Path, model_folder: Path, adapter: Path, tasks: Path
) -> None:
    figures = tmp_path / "figures.json"
    how = ["--tasks", tasks, "--limit", 3, "--max-new-tokens", 5, "--json", figures]
    answer = twofold("evaluate", model_folder, adapter, *how, "--pass-at", "2,1", "--samples", 4, "--temperature", 2)
    assert answer.code == 0, answer.err
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert (found["samples"], found["temperature"], found["tasks"]["n"]) == (4, 2.0, 3)
    figures_of = [(f["figure"], f["metric"]) for f in found["models"][0]["figures"]]
    kinds = ["pass@1", "pass@2", "maj@1", "maj@2"]
    assert figures_of == [(kind, metric) for metric in ("strict", "flexible") for kind in kinds]
    assert all(f["n"] == 3 and 0 <= f["low"] <= f["value"] <= f["high"] for f in found["models"][1]["figures"])
    assert len(found["comparisons"]) == 8
    assert {"difference", "p_value"} <= found["comparisons"][0].keys()
    assert "p, paired" in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pass-at", "1,8", "--samples", 4], "pass@8 needs more than 4 samples"),
        (["--pass-at", "one"], "'one' is no list of numbers"),
        (["--pass-at", "0,2"], "k must be ≥ 1"),
        (["--samples", 4], "go with --pass-at"),
    ],
)
def test_evaluate_refuses_what_cannot_be_counted(
    twofold: Run, model_folder: Path, tasks: Path, arguments: list[object], said: str
) -> None:
    answer = twofold("evaluate", model_folder, "--tasks", tasks, *arguments)
    assert (answer.code, said in answer.err) == (2, True), answer.err


@pytest.fixture
def adapter(tmp_path: Path, model_folder: Path) -> Path:
    """A LoRA adapter that changes what the model says."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_export_merges_an_adapter(twofold: Run, tmp_path: Path, model_folder: Path, adapter: Path) -> None:
    answer = twofold("export", adapter, tmp_path / "plain", "--dtype", "float32")
    assert answer.code == 0, answer.err
    merged = load_file(tmp_path / "plain" / "model.safetensors")
    base = load_file(model_folder / "model.safetensors")
    low_rank = load_file(adapter / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    down, up = (low_rank[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    scale = 8 / 2  # PEFT's default alpha over the rank
    expected = base[f"{name}.weight"].float() + scale * up @ down
    torch.testing.assert_close(merged[f"{name}.weight"], expected)
    assert AutoTokenizer.from_pretrained(tmp_path / "plain")("a")["input_ids"] != []


def test_export_of_a_run_keeps_the_stored_precision(twofold: Run, tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(model_folder)
    assert twofold("export", tmp_path / "run", tmp_path / "plain").code == 0
    base, plain = (load_file(f / "model.safetensors") for f in (model_folder, tmp_path / "plain"))
    assert plain.keys() == base.keys()
    assert all(torch.equal(plain[k], base[k]) and plain[k].dtype == torch.bfloat16 for k in base)


def test_export_never_overwrites(twofold: Run, tmp_path: Path, model_folder: Path, tasks: Path) -> None:
    answer = twofold("export", model_folder, tmp_path)
    assert answer.code == 2
    assert "already exists" in answer.err
    assert tasks.is_file()


def test_export_wants_a_model(twofold: Run, tmp_path: Path) -> None:
    answer = twofold("export", tmp_path, tmp_path / "plain")
    assert (answer.code, "holds neither a model nor an adapter" in answer.err) == (2, True)
    assert not (tmp_path / "plain").exists()
