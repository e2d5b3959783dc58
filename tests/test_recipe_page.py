"""The page of recipe keys says what the settings classes say."""

from __future__ import annotations

from scripts import make_recipe_page


def test_the_page_is_fresh() -> None:
    told = make_recipe_page.PAGE.read_text(encoding="utf-8")
    assert told == make_recipe_page.page(), "run: python scripts/make_recipe_page.py"


def test_every_key_is_on_it() -> None:
    told = make_recipe_page.page()
    for key in ("`gamma`", "`learning_rate`", "`heldout`", "`sharing`", "`batch_size`"):
        assert key in told
    assert "| `path` | **required** |" in told
