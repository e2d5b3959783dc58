"""The charts of a report on one or more runs. A chart is shown if its metrics exist."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from twofold.reports.drawing import Frame, Line, binned, svg
from twofold.reports.figure_data import Drawn, encoded
from twofold.reports.run import RewardResult
from twofold.statistics import wilson

PANELS = 6
POINTS = 480
SPAN = 0.1
Kind = Literal["train", "evaluation", "timing"]


class HasSeries(Protocol):
    """A run, or what is known of one while it is written."""

    def series(self, key: str, kind: str = "train") -> tuple[list[float], list[float]]: ...


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric and how it is drawn. `look` names a color; None uses the run's color."""

    key: str
    label: str = ""
    look: str | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """A chart: one for all runs with a line per run, or (several curves) one per run on a common scale.

    `level` draws a dotted line; `share` fixes the scale to percent, with a Wilson band where `count` names n.
    """

    title: str
    note: str
    curves: tuple[Curve, ...]
    kind: Kind = "train"
    level: float | None = None
    share: bool = False
    count: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing and its text on the page. `legend` contains (label, color name)."""

    title: str
    note: str
    svg: str
    legend: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    axis: str = "step"
    data: str = ""
    """What is drawn, as the page's script reads it (`figure_data.py`)."""
    run: str = ""
    """Whose chart it is, where each run has its own."""


_ROLES = (
    ("chosen", "chosen", "chosen"),
    ("rejected", "rejected", "rejected"),
    ("best", "best of a ranking", "chosen"),
    ("worst", "worst of a ranking", "rejected"),
    ("desirable", "desirable", "chosen"),
    ("undesirable", "undesirable", "rejected"),
    ("draft", "samples", "draft"),
    ("truth", "ground truth", "truth"),
    ("demonstration", "demonstrations", "truth"),
)
"""Roles of completions: the name in metrics, the label, and the color."""


def _parts(suffix: str) -> tuple[Curve, ...]:
    return tuple(Curve(f"{role}_{suffix}", label, look) for role, label, look in _ROLES)


ALONG = (
    Spec(
        "Problems solved, strict", "Share of problems answered right, in the required form. Band: 95% Wilson.",
        (Curve("exact_match/strict"),), "evaluation", share=True, count="exact_match/n",
    ),
    Spec(
        "Problems solved, flexible", "Share of problems answered right, wherever it is. Band: 95% Wilson.",
        (Curve("exact_match/flexible"),), "evaluation", share=True, count="exact_match/n",
    ),
    Spec(
        "Held-out preference accuracy",
        "Share of unseen pairs where the chosen answer gains more (rankings: in order). Dotted: guessing a pair.",
        (Curve("heldout/accuracy"),), "evaluation", level=0.5, share=True, count="heldout/n",
    ),
    Spec(
        "Win rate", "Share of prompts whose answer the judge prefers to the start's (or the rows'), ties halved.",
        (Curve("win_rate/rate"),), "evaluation", level=0.5, share=True, count="win_rate/n",
    ),
    Spec("Repetition", "Share of the 4-grams of words that an evaluation sample repeats.",
         (Curve("samples/repetition"),), "evaluation", share=True),
    Spec("Held-out reward", "Mean reward of one completion for each unseen prompt.", (Curve("heldout/reward"),),
         "evaluation"),
    Spec("Held-out margin", "Implicit reward of chosen minus rejected (best minus worst), unseen rows.",
         (Curve("heldout/margin"),), "evaluation", level=0.0),
    Spec("Held-out loss", "The training objective on unseen rows.", (Curve("heldout/loss"),), "evaluation"),
)  # fmt: skip
TRAINING = (
    Spec("Loss", "What the optimizer minimizes. A DPO loss starts at ln 2 = 0.693.", (Curve("loss"),)),
    Spec("Reward", "Mean reward of the samples, before any penalty.", (Curve("reward"),)),
    Spec("Implicit rewards", "β times the log-ratio of policy to reference. All start at 0.",
         _parts("reward"), level=0.0),
    Spec("Scores", "Of a reward model; preferences leave a constant per prompt open.", _parts("score")),
    Spec("Log-probabilities", "Of whole completions, in nats. Chosen should not sink far.", _parts("logp")),
    Spec("Margin", "Implicit reward of chosen minus rejected (best minus worst).", (Curve("margin"),), level=0.0),
    Spec("Preference accuracy in training", "Share of pairs with a positive margin, rankings in order, labels right.",
         (Curve("accuracy"),), share=True),
    Spec("KL of samples from the reference", "In nats per sample: the distance on the policy's own completions.",
         (Curve("draft_kl"),), level=0.0),
    Spec("KL of rollouts", "From the reference, in nats per rollout.", (Curve("kl"),), level=0.0),
    Spec("Lengths", "Tokens per completion. Samples that keep growing are a warning.", _parts("length")),
    Spec("Generator gap", "Ground truth's implicit reward minus the sample's. The generator reduces it to 0.",
         (Curve("gap"),), level=0.0),
)  # fmt: skip
FURTHER = (
    Spec("Loss of the discriminator (DPO)", "Dotted: ln 2, no preference.", (Curve("loss/dpo"),), level=math.log(2)),
    Spec("Loss of the generator (PDPO)", "Mean over samples of the gap where it is positive.", (Curve("loss/pdpo"),)),
    Spec("Loss of the demonstrations (SFT)", "Negative log-likelihood.", (Curve("loss/sft"),)),
    Spec("Active samples", "Share of samples with a positive gap (a gradient).", (Curve("active"),), share=True),
    Spec("Correct samples", "Share of samples that the verifier accepts.", (Curve("right"),), share=True),
    Spec("Truncated samples", "Share of samples that reached the length limit; they are not trained on.",
         (Curve("truncated"),), share=True),
    Spec("KL estimate (z₀)", "KTO's point of reference, in nats: what mismatched rows have gained on the reference.",
         (Curve("z0"),), level=0.0),
    Spec("Kendall's τ", "Agreement of rewards with rankings: 1 for the same order, −1 for its reverse.",
         (Curve("kendall_tau"),), level=0.0),
    Spec("Gradient weight", "How strongly a pair is still pushed: under DPO σ(−margin), mean over pairs.",
         (Curve("gradient_weight"),)),
    Spec("Spread of gradient weights", "Standard deviation over the pairs of a step: near 0 all count alike.",
         (Curve("gradient_weight_std"),)),
    Spec("Log-ratios", "Log-probability against the reference, nats: of the data, which the policy did not draw.",
         _parts("logratio"), level=0.0),
    Spec("Distance on the data (k2)", "Sum of half the squared log-ratios of the tokens: how far the policy has moved.",
         _parts("k2")),
    Spec("Gradient norm", "Before clipping.", (Curve("grad_norm"),)),
    Spec("Learning rate", "", (Curve("learning_rate"),)),
)  # fmt: skip
SPEED = (
    Spec("Tokens per second", "Tokens of the step's groups, each prompt once, by the time of the whole step.",
         (Curve("tokens_per_second"),), "timing", level=0.0),
    Spec("Samples per second", "While sampling only.", (Curve("drafts_per_second"),), "timing", level=0.0),
    Spec("Seconds per step", "Sampling, training and logging; without evaluations and checkpoints.",
         (Curve("seconds"),), "timing", level=0.0),
    Spec("Peak memory, GiB", "Of the first process until this step: GPU memory, or main memory on a CPU.",
         (Curve("memory_gib"),), "timing", level=0.0),
)  # fmt: skip


def draw(specs: Sequence[Spec], runs: Sequence[HasSeries], labels: Sequence[tuple[str, str]]) -> list[Chart]:
    """The charts of `specs` whose metrics exist.

    `labels` contain each run's name and color name. Runs with one color are seeds of one method. A chart with room for
    one run shows the first of them.
    """
    first = [i for i, (_, look) in enumerate(labels) if look not in [known for _, known in labels[:i]]][:PANELS]
    charts: list[Chart] = []
    for spec in specs:
        if len(spec.curves) > 1:
            charts += _panels(spec, [runs[i] for i in first], [labels[i][0] for i in first], first)
        elif chart := _overlay(spec, runs, labels):
            charts.append(chart)
    return charts


def calibration_chart(name: str, look: str, result: RewardResult) -> Chart:
    """A point for each bin of confidence, with Wilson's interval. On the dotted line confidence equals accuracy."""
    told = [wilson(round(observed * n), n) for _, observed, n in result.bins]
    line = Line(
        x=[predicted for predicted, _, _ in result.bins],
        y=[observed for _, observed, _ in result.bins],
        look=look,
        low=[e.low for e in told],
        high=[e.high for e in told],
        markers=True,
    )
    low = min([0.5, *line.low])
    frame = Frame(f"Calibration: {name}", 1.0, low - 0.02, 1.02, percent=True, begin=0.5, shares=True)
    note = "Accuracy by the model's confidence. Band: 95% Wilson."
    data = encoded([Drawn("accuracy", line)], frame)
    return Chart("Calibration", note, svg([line], frame), (), (), axis="predicted probability", run=name, data=data)


def looks(methods: Sequence[int]) -> list[str]:
    """The color name of each run, by its method."""
    order = list(dict.fromkeys(methods))
    return [f"run-{order.index(method) % 6}" for method in methods]


def _overlay(spec: Spec, runs: Sequence[HasSeries], labels: Sequence[tuple[str, str]]) -> Chart | None:
    """One chart, a line per run."""
    curve, drawn, legend = spec.curves[0], list[Drawn](), dict[str, str]()
    for at, (run, (name, look)) in enumerate(zip(runs, labels, strict=True)):
        if line := _line(run, curve, spec, look, _points(len(runs))):
            drawn.append(Drawn(name if len(runs) > 1 else spec.title, line, at))
            legend.setdefault(look, name)
    if not drawn:
        return None
    lines = [each.line for each in drawn]
    frame = _frame(lines, spec)
    told = tuple((name, look) for look, name in legend.items()) if len(runs) > 1 else ()
    return Chart(spec.title, spec.note, svg(lines, frame), told, (curve.key,), data=encoded(drawn, frame))


def _panels(spec: Spec, runs: Sequence[HasSeries], names: Sequence[str], places: Sequence[int]) -> list[Chart]:
    """A chart per run, its curves together; one scale for all runs. `places` are the runs' places on the page."""
    points = _points(len(runs))
    drawn = [[(c, ln) for c in spec.curves if (ln := _line(run, c, spec, c.look or "ink", points))] for run in runs]
    if not any(drawn):
        return []
    frame = _frame([line for panel in drawn for _, line in panel], spec)
    charts = []
    for panel, name, place in zip(drawn, names, places, strict=False):
        if panel:
            lines = [line for _, line in panel]
            charts.append(Chart(
                spec.title, spec.note, svg(lines, frame), tuple((c.label, line.look) for c, line in panel),
                tuple(c.key for c, _ in panel), run=name if len(runs) > 1 else "",
                data=encoded([Drawn(c.label, line, place) for c, line in panel], frame),
            ))  # fmt: skip
    return charts


def _points(runs: int) -> int:
    """Maximum number of points per line, so that a page of many runs is small."""
    return max(30, POINTS // max(2, runs))


def _line(run: HasSeries, curve: Curve, spec: Spec, look: str, points: int) -> Line | None:
    x, y = run.series(curve.key, spec.kind)
    if not x:
        return None
    if spec.kind == "evaluation":
        low, high = _band(run, curve.key, spec.count)
        return Line(x, y, look, low, high, markers=True)
    return Line(*binned(x, y, points), look)


def _band(run: HasSeries, key: str, count: str) -> tuple[list[float], list[float]]:
    """Wilson's interval at each step, if every line has a count."""
    x, y = run.series(key, "evaluation")
    steps, sizes = run.series(count, "evaluation")
    if not count or steps != x or not all(0 <= v <= 1 for v in y) or min(sizes, default=0) < 1:
        return [], []
    bands = [wilson(round(v * n), round(n)) for v, n in zip(y, sizes, strict=True)]
    return [b.low for b in bands], [b.high for b in bands]


def _frame(lines: Sequence[Line], spec: Spec) -> Frame:
    """The common scale: the range of the data plus a margin. Shares are within 0 and 1 and span at least SPAN."""
    values = [v for line in lines for v in (*line.y, *line.low, *line.high)]
    values += [spec.level] if spec.level is not None else []
    low, high = min(values), max(values)
    end = max(x for line in lines for x in line.x) or 1
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    if spec.share:
        pad = max(pad, (SPAN - (high - low)) / 2)
        low, high = max(low - pad, min(low, 0.0)), min(high + pad, max(high, 1.0))
        return Frame(spec.title, end, low, high, spec.level, percent=True)
    return Frame(spec.title, end, low - pad, high + pad, spec.level)
