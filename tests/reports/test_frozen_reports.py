"""What a page shows is not changed afterwards, and what it shows many of is small."""

from __future__ import annotations

from support.frozen import changeable, dataclasses_of, slotted
from support.usual_defaults import constants, numbers, switched_on, unusual
from twofold import reports


def test_nothing_can_be_changed() -> None:
    assert changeable(reports) == set()


def test_what_a_page_shows_many_of_takes_no_further_attributes() -> None:
    one_of_each = {"Board", "Check", "Curve", "Family", "Introduction", "RunData", "Snapshot"}
    assert slotted(reports) == set(dataclasses_of(reports)) - one_of_each


def test_what_nobody_names_is_as_everywhere() -> None:
    assert unusual(reports) == {}


def test_a_switch_is_off_unless_somebody_asks() -> None:
    assert switched_on(reports) == {"Frame.whole", "histogram.whole"}


def test_numbers_that_nobody_names_are_these() -> None:
    assert numbers(reports) == {
        "Board.every": 5.0, "plain.limit": 400, "fenced.limit": 20000, "_short.digits": 5, "clip.limit": 1200,
        "MatchRow.share": -1.0,
    }  # fmt: skip


def test_constants_are_these() -> None:
    assert constants(reports) == {
        "board.DEEPEST": 4, "board.MOST_RUNS": 200, "board.DRAWN": 12, "board.PAUSE": 10,
        "board_server.MOST_NAMES": 12, "charts.PANELS": 6, "charts.POINTS": 480, "charts.SPAN": 0.1,
        "checks.WIDE": 0.05, "checks.NEGLIGIBLE_NATS": 2.0, "checks.FELL": 0.02, "checks.MANY": 0.05,
        "checks.SHUT": 0.9, "checks.LONGEST_CIRCLE": 60, "checks.SHORTEST_CIRCLES": 24, "columns.MOST_LINES": 250000,
        "columns.MOST_BYTES": 16000000, "columns.CHUNK": 1048576, "contests.MOST": 20, "contests.MOST_PAIRS": 60,
        "dataset.BINS": 24, "dataset.FAR": 0.99, "dataset.MOST_NAMES": 12, "drawing.WIDTH": 4.4,
        "drawing.HEIGHT": 2.5, "drawing.AXES": (0.115, 0.125, 0.865, 0.85), "experts.FEW": 8,
        "explanation.MOST_TOKENS": 9000, "figure_data.DIGITS": 5, "figure_data.TICKS": 120, "findings.FEW": 4,
        "frontier.RECENT": 10, "frontier.MOST": 40, "heat.LEVELS": 5, "heat.STRONG": 0.98, "heat.ROWS": 6,
        "heat.TOKENS": 300, "html.RECIPE": 24000, "html.WORRIES": 24, "html.COLUMNS": 6, "html.FALLS": 3,
        "html.MATCHES": 8, "live.SILENT_STEPS": 20, "live.SILENT_SECONDS": 60.0, "live.RECENT": 50,
        "live.MOST_TEXTS": 20, "live.MOST_LETTERS": 2000, "pages.TEXT": 1200, "provenance.MOST_SETTINGS": 60,
        "rates.SMALL_MODEL": 50000000, "run.MOST_BYTES": 64000000,
        "samples.SHOWN": {"gained": 4, "lost": 4, "wrong": 3, "right": 2}, "samples.COLUMNS": 5, "samples.MOST": 200,
        "samples.BUDGET": 900000, "samples.MARKUP": 700, "significance.SIGNIFICANT": 0.05,
        "significance.MOST_PAIRED": 8, "tables.SMALLEST_P": 0.001, "tune.LINES": 60, "tune.COLORS": 5,
    }  # fmt: skip
