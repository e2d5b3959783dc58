"""`twofold evaluate`: models on the same items, with intervals, paired tests, and every item to be counted again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli.dataclass_options import spread
from twofold.cli.evaluate_options import ANSWERS, SAMPLED, Options, command, refuse_contradictions
from twofold.cli.evaluate_tables import EvaluationOutput, show
from twofold.cli.terminal import results
from twofold.errors import LeakError, TwofoldError

if TYPE_CHECKING:
    from twofold.progress import Progress
    from twofold.records import Record


@spread
def evaluate(given: Options) -> None:
    """Measure models on the same items: answers by strict (`#### N`), flexible (last number) and math-verify; pass@k;
    held-out preferences; perplexity; win rates before a judge; reward against KL. 95% intervals; two models or more get
    paired tests."""
    from twofold.cli.progress import RichProgress

    refuse_contradictions(given)
    with RichProgress() as progress:
        about, tell = _measured(given, progress)
    told, rows = tell()
    again = command(given)
    results().print(f"again: {again}", markup=False, soft_wrap=True, style="dim")
    _write(given, {"command": again, **about, **told}, rows)


def _measured(given: Options, progress: Progress) -> tuple[dict[str, Any], Callable[[], EvaluationOutput]]:
    """What the figures are of, and what shows them."""
    from twofold.cli import evaluate_rows, frontier, harness, pass_at, win_rate

    if given.harness is not None:
        about, found = harness.judged(given, progress)
        return about, lambda: show(found)
    drawing = None if given.task in SAMPLED else pass_at.Drawing.of(
        given.pass_at, given.samples, given.temperature, given.seed if given.pass_at is not None else 0
    )  # fmt: skip
    source = evaluate_rows.source(given)
    about: dict[str, Any] = {
        "task": given.task, "tasks": {"source": source.source, "sha256": source.sha256, "n": len(source.records)},
    }  # fmt: skip
    if given.task in ANSWERS:
        about["max_new_tokens"] = given.max_new_tokens
    for model in given.models:
        refuse_trained_on(Path(model), source.records, progress)
    if given.task in SAMPLED:
        more, tell = (win_rate if given.task == "win-rate" else frontier).measured(given, source.records, progress)
        return {**about, **more}, tell
    if drawing is not None:
        solved = evaluate_rows.solved(given, source.records, drawing, progress)
        return about, lambda: pass_at.summarize(solved, drawing)
    judged = evaluate_rows.JUDGED[given.task](given, source.records, progress)
    return about, lambda: show(judged)


def refuse_trained_on(run: Path, records: Sequence[Record], progress: Progress) -> None:
    """Of a run directory: nothing is evaluated on a prompt that was trained on."""
    if not (run / "resolved.yaml").is_file():
        return
    from twofold.runs.dataset import refuse_trained_on as refuse

    try:
        refuse(run, records)
    except LeakError:
        raise
    except TwofoldError as error:
        progress.warn(f"{run}: cannot tell whether it was trained on these rows: {error.what}")


def _write(given: Options, told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(text, encoding="utf-8")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (given.out / "rows.jsonl").write_text(lines, encoding="utf-8")
    if given.json_file is not None:
        given.json_file.write_text(text, encoding="utf-8")
