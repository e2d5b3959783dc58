"""All tasks of `twofold evaluate` that measure item by item, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twofold.evaluation import (
    alpaca_eval,
    answers,
    arena_hard,
    contest,
    frontier,
    instruction_following,
    judging,
    likelihood,
    math_problems,
    mt_bench,
    pass_at_k,
    rewardbench,
    truthfulqa,
    win_rate,
)
from twofold.evaluation.parts import Halves
from twofold.evaluation.published_rows import items, mt_questions
from twofold.evaluation.rows import Needs, rows_of
from twofold.records import Record


def _rows(task: Needs) -> Callable[[Sequence[Record]], Sequence[Any]]:
    return partial(rows_of, task=task)


ANSWERS = Halves(answers.AccuracySettings, _rows("answers"), answers.measure_accuracy, answers.accuracy_figures)
PASS_AT_K = Halves(pass_at_k.PassAtKSettings, _rows("answers"), pass_at_k.measure_samples, pass_at_k.pass_at_k_figures)
SAMPLES: Mapping[str, Halves] = {
    "math": Halves(
        math_problems.MathPassAtKSettings, _rows("math"), math_problems.measure_math_samples,
        math_problems.math_sample_figures,
    ),
}  # fmt: skip
"""What `--pass-at` measures; of the other tasks it is PASS_AT_K."""
TASKS: Mapping[str, Halves] = {
    "math": Halves(
        math_problems.MathSettings, _rows("math"), math_problems.measure_math, math_problems.math_figures
    ),
    "ifeval": Halves(
        instruction_following.IfevalSettings, _rows("ifeval"), instruction_following.measure_instructions,
        instruction_following.instruction_figures,
    ),
    "truthfulqa": Halves(
        truthfulqa.TruthfulQaSettings, _rows("truthfulqa"), truthfulqa.measure_truthful, truthfulqa.truthful_figures,
        likelihood.grain,
    ),
    "rewardbench": Halves(
        rewardbench.RewardBenchSettings, _rows("rewardbench"), rewardbench.measure_pairs,
        rewardbench.pair_figures, likelihood.grain,
    ),
    "rewardbench2": Halves(
        rewardbench.RewardBenchSettings, _rows("rewardbench2"), rewardbench.measure_best,
        rewardbench.best_figures, likelihood.grain,
    ),
    "preference": Halves(
        likelihood.PreferenceSettings, _rows("preference"), likelihood.measure_preference,
        likelihood.preference_figures, likelihood.grain,
    ),
    "perplexity": Halves(
        likelihood.PerplexitySettings, _rows("perplexity"), likelihood.measure_perplexity,
        likelihood.perplexity_figures, likelihood.grain,
    ),
    "win-rate": Halves(
        win_rate.WinRateSettings, _rows("win-rate"), win_rate.measure_win_rate, win_rate.win_rate_figures
    ),
    "contest": Halves(
        contest.ContestSettings, _rows("contest"), contest.measure_contest, contest.contest_figures
    ),
    "alpaca-eval": Halves(
        alpaca_eval.AlpacaEvalSettings, items("alpaca-eval"), alpaca_eval.measure_alpaca_eval,
        alpaca_eval.alpaca_eval_figures,
    ),
    "arena-hard": Halves(
        arena_hard.ArenaHardSettings, items("arena-hard"), arena_hard.measure_arena_hard, arena_hard.arena_hard_figures
    ),
    "mt-bench": Halves(
        mt_bench.MtBenchSettings, mt_questions, mt_bench.measure_mt_bench, mt_bench.mt_bench_figures
    ),
    "judge": Halves(
        judging.JudgeSettings, judging.labeled_pairs, judging.measure_judges, judging.judge_figures
    ),
    "frontier": Halves(
        frontier.FrontierSettings, lambda records: frontier.prompts_of(rows_of(records, "frontier")),
        frontier.measure_frontier, frontier.frontier_figures,
    ),
}  # fmt: skip
"""The others are ANSWERS, and with samples PASS_AT_K."""
