"""Every test of reports may ask for a run directory, and for a browser."""

from collections.abc import Iterator

import pytest

from support import devtools
from support.made_up_runs import make_run

__all__ = ["browser", "make_run"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[devtools.Page]:
    path = devtools.browser()
    if path is None:
        pytest.skip("no Chromium on this machine: reports are not opened in a browser here")
    opened = devtools.Page(path, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()
