"""A reward model in a report: how sure it is next to how often it is right."""

from __future__ import annotations

from twofold.reports.charts import Chart
from twofold.reports.drawing import Frame, Line, svg
from twofold.reports.run import RewardResult
from twofold.statistics import wilson


def calibration_chart(name: str, look: str, result: RewardResult) -> Chart:
    """A point for each bin of confidence, with Wilson's interval; on the dotted line words and deeds agree."""
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
    note = "How often the favourite is the better, by how sure the model is of it. Band: 95% Wilson."
    return Chart(f"Calibration: {name}", note, svg([line], frame), (), (), axis="probability, as the model says")
