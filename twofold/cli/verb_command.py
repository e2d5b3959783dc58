"""Corrections for options: a misspelled option, or one of another verb, is an error with the right spelling."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from twofold.errors import RecipeError

SETTINGS = "KEY=VALUE"
RENAMED = {"-n": "--rows", "--column": "--columns", "--tokenizer": "--model"}
"""Options of earlier versions."""
SECTIONS = {"train": ("Recipe", ""), "sample": ("Sampling", ""), "build": ("Sampling", "sampling.")}
"""For the settings of a verb: the name of their class in `outline.json`, and the prefix of their keys."""
ALWAYS = ("--help", "-h", "--debug")
command_words: ContextVar[tuple[str, ...]] = ContextVar("command_words")
"""The words of the current command, from its verb on."""


class VerbCommand(TyperCommand):
    """A verb that distinguishes options (`--max-new-tokens 5`) from settings (`max_new_tokens=5`)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._refuse_other_spellings(args)
        command_words.set((*ctx.command_path.split()[1:], *args))
        return super().parse_args(ctx, args)

    def _refuse_other_spellings(self, args: Sequence[str]) -> None:
        options = {spelling: param for param in self.params for spelling in (*param.opts, *param.secondary_opts)}
        settings = any(SETTINGS in (getattr(param, "metavar", None) or "") for param in self.params)
        for before, word, after in zip(["", *args], args, [*args[1:], ""], strict=False):
            if word == "--":
                return
            name, equals, value = word.partition("=")
            if name in options or name in ALWAYS or _takes_value(options.get(before)):
                continue
            if (renamed := RENAMED.get(name)) in options:
                raise RecipeError("was renamed", where=name, remedy=f"use {renamed}")
            if re.match(r"--?[A-Za-z][\w-]", name) and name[:2] not in options:
                value = value if equals or after.startswith("-") else after
                raise RecipeError("no such option", where=name, remedy=self._meant(name, value, options, settings))
            option = "--" + name.replace("_", "-")
            is_setting = equals and re.fullmatch(r"\w+", name) and not before.startswith("-") and not settings
            if is_setting and option in options and not Path(word).exists():
                raise RecipeError(f"{self.name} takes options here", where=word, remedy=f"write {option} {value}")

    def _meant(self, name: str, value: str, options: Collection[str], settings: bool) -> str:
        """The remedy for an option that does not exist."""
        from twofold.config.advice import near

        word = name.lstrip("-").replace("-", "_")
        spelt = {option.lstrip("-").replace("-", "_"): option for option in options if option.startswith("--")}
        if meant := near(word, [*spelt, "help"]):
            return f"did you mean `{spelt.get(meant, '--help')}`?"
        if not settings:
            return "--help lists the options"
        from twofold.config.outline import setting_path

        section, before = SECTIONS.get(self.name or "", ("", ""))
        path = setting_path(section, word) if section else None
        setting = f"{before}{path or word}={value or 'VALUE'}"
        is_other = path is not None and path.rpartition(".")[2] != word
        return f"did you mean {setting}?" if is_other else f"a setting is written {setting}"


def _takes_value(option: Any) -> bool:
    return option is not None and not getattr(option, "is_flag", False)
