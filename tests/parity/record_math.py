"""Record lm-eval's verdicts on answers to problems of mathematics: `python tests/parity/record_math.py`, where
lm-eval[math] is installed.

Writes lm_eval_math.json beside this file: cases of [solution, completion, minerva exact_match, minerva math_verify,
hendrycks exact_match]. `tests/evaluation/test_math_problems.py` reads only that.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval.tasks.hendrycks_math import utils as hendrycks
from lm_eval.tasks.minerva_math import utils as minerva

ANSWERS: dict[str, list[str]] = {
    "18": ["18", "18.0", "19", "x = 18", "eighteen"],
    "-7": ["-7", "7", "- 7"],
    "2.5": ["2.5", r"\frac{5}{2}", "2.50", "2.6"],
    r"\frac{3}{4}": ["3/4", ".75", r"\dfrac34", r"\frac{4}{3}"],
    r"\dfrac{1}{2}": ["0.5", r"\frac12", "1/3"],
    "1,234": ["1234", "1,234", "1{,}234", "234"],
    r"10,\!080": ["10080", "10,080", "1080"],
    r"3\sqrt{2}": [r"\sqrt{18}", r"3\sqrt2", r"2\sqrt{3}"],
    r"\frac{\pi}{6}": [r"\pi/6", r"\frac{1}{6}\pi", r"\frac{\pi}{3}"],
    "x^2+2x+1": ["(x+1)^2", "1+2x+x^2", "x^2+1"],
    "[2,5)": ["[2,5)", "[2, 5)", "(2,5)", r"\left[2,5\right)"],
    r"(-\infty, 0)": [r"(-\infty,0)", "x<0", r"(-\infty, 0]"],
    r"\left( 3, \frac{\pi}{2} \right)": [r"(3,\frac{\pi}{2})", r"(3, \pi/2)", "(3, 2)"],
    "3, 5, 7": ["3,5,7", "7, 5, 3", "3, 5"],
    r"\{1, 2\}": [r"\{2,1\}", "1, 2", r"\{1,3\}"],
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}": [
        r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}",
        r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"],
    r"\text{even}": [r"\text{even}", "even", r"\text{odd}"],
    r"\text{(E)}": ["E", r"\text{(E)}", "(D)"],
    r"\text{Evelyn}": [r"\text{Evelyn}", "Evelyn", "Carla"],
    "50\\%": ["50\\%", "50", "0.5", "40\\%"],
    r"60^\circ": ["60", r"60^{\circ}", "30^\\circ"],
    r"\$36": ["36", r"\$36", "36.00", "35"],
    r"12\text{ cm}": ["12", r"12\text{ cm}", "12 cm", "13"],
    "2516_8": ["2516_8", "2516_{8}", "2516"],
    r"1\frac{1}{2}": [r"\frac{3}{2}", "1.5", r"1\frac12"],
    "6+9i": ["6+9i", "9i+6", "6-9i"],
    r"1 \pm \sqrt{19}": [r"1\pm\sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}", r"1+\sqrt{19}"],
    "y = 2x + 3": ["y=2x+3", "2x+3", "y = 2x - 3"],
    "2^{10}": ["1024", "2^{10}", "2^9"],
    r"\frac{1}{3}": ["0.333", "0.333333", r"\frac{2}{6}"],
}  # fmt: skip
"""Reference answers and answers of models, right and wrong."""
STYLES = {
    "boxed": r"So we have $\boxed{%s}$.",
    "final": "Final Answer: The final answer is $%s$. I hope it is correct.",
    "both": "We get $\\boxed{%s}.$\nFinal Answer: The final answer is $%s$. I hope it is correct.",
    "formula": "The result is $%s$",
    "bare": "%s",
    "corrected": r"First $\boxed{1}$, but then $\boxed{%s}$.",
}


def cases() -> list[list[Any]]:
    found: list[list[Any]] = []
    for number, (gold, given) in enumerate(ANSWERS.items()):
        solution = f"We count and get ${{}} = \\boxed{{{gold}}}$."
        doc = {"problem": "", "solution": solution}
        docs = {
            each: {**doc, "answer": each.remove_boxed(each.last_boxed_only_string(solution))}
            for each in (minerva, hendrycks)
        }
        docs[minerva]["answer"] = minerva.normalize_final_answer(docs[minerva]["answer"])
        for place, answer in enumerate(given):
            for style in [*STYLES][(number + place) % 3 :: 3]:
                text = STYLES[style].replace("%s", answer)
                mine = minerva.process_results(docs[minerva], [text])
                theirs = hendrycks.process_results(docs[hendrycks], [text])
                verdicts = (mine["exact_match"], mine["math_verify"], theirs["exact_match"])
                found.append([solution, text, *map(int, verdicts)])
    return found


def main() -> None:
    found = cases()
    versions = {name: version(name) for name in ("lm-eval", "math-verify", "latex2sympy2-extended", "sympy")}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in found)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("lm_eval_math.json")
    path.write_text(f'{{"versions": {json.dumps(versions)},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(found)} cases, {path.stat().st_size} bytes: {path.name}")


if __name__ == "__main__":
    main()
