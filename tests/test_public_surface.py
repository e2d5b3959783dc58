"""What `import twofold` gives: every member of the unions by itself, everything documented, nothing loaded early."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

import twofold
from twofold.algorithms import AnyAlgorithm
from twofold.objectives import AnyObjective


@pytest.mark.parametrize("member", [*get_args(AnyObjective), *get_args(AnyAlgorithm)])
def test_every_kind_of_a_recipe_is_public(member: type) -> None:
    assert getattr(twofold, member.__name__) is member


def test_every_public_name_resolves_and_is_documented() -> None:
    assert [n for n in dir(twofold) if n != "__version__" and not getattr(twofold, n).__doc__] == []


def test_what_a_star_imports_is_what_is_public() -> None:
    names: dict[str, object] = {}
    exec("from twofold import *", names)
    assert sorted(names.keys() - {"__builtins__"}) == sorted(dir(twofold))


def test_looking_at_the_names_loads_nothing_heavy() -> None:
    code = "import sys, twofold; dir(twofold); hasattr(twofold, 'x'); print({'torch', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'twofold' has no attribute 'DPPO'"):
        _ = twofold.DPPO
