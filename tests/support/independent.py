"""`twofold evaluate`'s figures once more, by another way: plain transformers, plain regular expressions, scipy.

`python tests/evaluation/independent.py TASKS MODEL MODEL` decodes with `generate` and prints shares and McNemar's p.
It takes nothing from twofold.
"""

import json
import re
import sys
from pathlib import Path

from math_verify import parse, verify
from scipy.stats import binomtest
from transformers import AutoModelForCausalLM, AutoTokenizer


def completions(folder, prompts, most):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    for prompt in prompts:
        token = tokenizer(prompt, return_tensors="pt").input_ids
        said = model.generate(token, attention_mask=token.new_ones(token.shape), do_sample=False, max_new_tokens=most)
        yield tokenizer.decode(said[0, token.shape[1] :], skip_special_tokens=True)


def verdict(said, answer):
    gold = answer.split("#### ")[-1]
    marked = re.search(r"#### (-?[\d.,]+)", said)
    numbers = re.findall(r"-?\d[\d,]*(?:\.\d+)?", re.sub(r"(?<=\w)-", " ", said)) or ["nan"]
    strict = marked is not None and marked[1].replace(",", "").rstrip(".") == gold
    equal = bool(verify(parse(gold), parse(said)))
    return {"strict": strict, "flexible": float(numbers[-1].replace(",", "")) == float(gold), "math": equal}


def figures(tasks, by_model):
    judged = [[verdict(s, t["answer"]) for s, t in zip(said, tasks, strict=True)] for said in by_model]
    told = {"shares": [{k: sum(v[k] for v in model) / len(model) for k in model[0]} for model in judged], "p": {}}
    for k in judged[0][0]:
        a, b = (sum(x[k] and not y[k] for x, y in zip(p, q, strict=True)) for p, q in (judged, judged[::-1]))
        told["p"][k] = binomtest(a, a + b).pvalue if a + b else 1.0
    return told


if __name__ == "__main__":
    problems = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    asked = [p["prompt"] for p in problems]
    print(json.dumps(figures(problems, [list(completions(m, asked, 64)) for m in sys.argv[2:]])))
