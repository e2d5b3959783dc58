"""What a page has of each run and how much of it: matches, experts, clocks; an introduction, and pages that refresh."""

from __future__ import annotations

from pathlib import Path

from support.made_up_runs import run_data
from twofold.reports import html
from twofold.reports.html import Introduction, render, write_report
from twofold.reports.run import MatchRow, Results

EXPERTS = Results(experts={"share": [[0.5, 0.5]], "evenness": 1.0, "tokens": 5})
ABOUT = Introduction("About-it.", (("a-term", "Its-meaning."),), "A-caveat.", (("a-command", "Its-purpose."),))


def test_eight_matches_of_a_run_are_shown_of_all() -> None:
    matches = tuple(MatchRow(5, f"m{i}", "p", "c", "o", 1.0) for i in range(10))
    page = html._page([run_data(name="x"), run_data(name="y", matches=matches)], "t")
    assert page["matches"] == [("y", matches[:8], 10)]
    assert "m7" in str(page["matches"])


def test_experts_of_three_runs_are_shown() -> None:
    runs = [run_data(name=str(i), results=EXPERTS if i != 1 else Results(), settings={"x": i}) for i in range(6)]
    assert [use.run for use in html._page(runs, "t")["experts"]] == ["0", "2", "3"]


def test_clocks_of_all_runs_are_short_json() -> None:
    """One is empty, which keeps its place; tokens are an axis where any run counts them."""
    timed = run_data(timings={"seconds": [1.0, 1.0], "tokens": [3.0, 4.0]})
    page = html._page([run_data(), timed], "t")
    assert page["clocks"] == '[{},{"steps":[0.0,1.0,2.0],"seconds":[0,1,2],"tokens":[0,3,7]}]'
    assert page["has_tokens"] is True
    bare = html._page([run_data(timings={"seconds": [1.0, 1.0]})], "t")
    assert (bare["clocks"], bare["has_tokens"]) == ('[{"steps":[0.0,1.0,2.0],"seconds":[0,1,2]}]', False)


def test_an_introduction_is_there_where_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    out = write_report([tmp_path / "run"], tmp_path / "page.html", "My title", introduction=ABOUT)
    text, plain = out.read_text(encoding="utf-8"), render([run_data()], "t")
    assert "<title>My title</title>" in text
    for said in ("About-it.", "a-term", "Its-meaning.", "A-caveat.", "a-command", "Its-purpose."):
        assert said in text
        assert said not in plain


def test_a_page_of_a_board_asks_for_itself() -> None:
    live, still = render([run_data()], "t", refresh=2.5), render([run_data()], "t")
    assert 'data-refresh="2.5"' in live
    assert "connect-src 'self'" in live
    assert "data-refresh" not in still.split("<script>")[0]
    assert "connect-src" not in still
    assert len(live.split("<script>")[1]) > len(still.split("<script>")[1])
