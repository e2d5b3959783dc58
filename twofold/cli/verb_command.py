"""One way to write each thing: what is written as another verb has it is answered with how this one has it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from twofold.errors import RecipeError

SETTINGS = "KEY=VALUE"
RENAMED = {"-n": "--rows", "--column": "--columns"}
"""Options of former versions."""


class VerbCommand(TyperCommand):
    """A verb that knows options (`--max-new-tokens 5`) from settings (`max_new_tokens=5`)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._refuse_other_spellings(args)
        return super().parse_args(ctx, args)

    def _refuse_other_spellings(self, args: Sequence[str]) -> None:
        options = {spelling for param in self.params for spelling in (*param.opts, *param.secondary_opts)}
        settings = any(SETTINGS in (getattr(param, "metavar", None) or "") for param in self.params)
        for before, word in zip(["", *args], args, strict=False):
            if word == "--":
                return
            name, equals, value = word.partition("=")
            renamed = RENAMED.get(name)
            if name not in options and renamed in options:
                raise RecipeError("was renamed", where=name, remedy=f"use {renamed}")
            if name.startswith("--") and name not in options and settings:
                self._refuse_setting(name, value, options)
            option = "--" + name.replace("_", "-")
            is_setting = equals and re.fullmatch(r"\w+", name) and not before.startswith("-") and not settings
            if is_setting and option in options and not Path(word).exists():
                raise RecipeError(f"{self.name} takes options here", where=word, remedy=f"write {option} {value}")

    def _refuse_setting(self, name: str, value: str, options: set[str]) -> None:
        if name in ("--help", "--debug") or difflib.get_close_matches(name, options, n=1):
            return
        key = name.removeprefix("--").replace("-", "_")
        raise RecipeError("no such option", where=name, remedy=f"a setting is written {key}={value or 'VALUE'}")
