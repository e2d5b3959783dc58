"""`twofold completion`: the completion of verbs and options in a shell, generated from the parser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, get_args

import typer

from twofold.cli.verbs import panel_of

DEBUG = ("--debug",)


class Shell(StrEnum):
    """A shell whose completion is known."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@dataclass(frozen=True)
class Option:
    """An option with its spellings, its help, and whether a value follows."""

    spellings: tuple[str, ...]
    help: str
    takes_value: bool


@dataclass(frozen=True)
class Verb:
    """A verb with its options, and the choices of its first argument if they are listed."""

    name: str
    options: tuple[Option, ...]
    choices: tuple[str, ...]

    @property
    def spellings(self) -> list[str]:
        """All options as they are typed."""
        return [spelling for option in self.options for spelling in option.spellings]


def completion(
    shell: Annotated[Shell, typer.Argument(help="Whose script to print.", show_default=False)],
) -> None:
    """Print the script that completes verbs and options: eval "$(twofold completion bash)"."""
    from twofold.cli.main import app

    typer.echo(SCRIPTS[shell](list(verbs(typer.main.get_command(app)))), nl=False)


def verbs(command: Any) -> Iterator[Verb]:
    """The verbs of the command line, as its parser has them."""
    for name, verb in _leaves(command, ()):
        listed = [p for p in verb.params if p.param_type_name == "argument"]
        options = tuple(_option(p) for p in verb.params if p.param_type_name == "option" and not p.hidden)
        always = (Option(("--help", "-h"), "Show the help.", False), Option(DEBUG, "Show tracebacks.", False))
        own = tuple(o for o in options if "--help" not in o.spellings)
        yield Verb(" ".join(name), (*own, *always), _choices(listed[0]) if listed else ())


def _leaves(command: Any, name: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for word, below in getattr(command, "commands", {}).items():
        yield from _leaves(below, (*name, word)) if hasattr(below, "commands") else [((*name, word), below)]


def _option(param: Any) -> Option:
    text = (param.help or "").split("\n")[0]
    spellings = (*param.opts, *param.secondary_opts)
    return Option(spellings, text, not getattr(param, "is_flag", False))


def _choices(param: Any) -> tuple[str, ...]:
    told = getattr(getattr(param, "type_descriptor", None), "annotation", None)  # of typer from 0.26; before, `type`
    enum = next((kind for kind in (told, *get_args(told)) if isinstance(kind, type) and issubclass(kind, Enum)), None)
    if enum is not None:
        return tuple(str(member.value) for member in enum)
    return tuple(str(choice) for choice in getattr(getattr(param, "type", None), "choices", ()))


def _words(found: list[Verb]) -> tuple[list[str], dict[str, list[str]]]:
    """First words, and the second words of those that have some."""
    first = list(dict.fromkeys(verb.name.split()[0] for verb in found))
    second = {word: [v.name.split()[1] for v in found if v.name.startswith(f"{word} ")] for word in first}
    return first, {word: below for word, below in second.items() if below}


def bash(found: list[Verb]) -> str:
    """The script of bash."""
    first, second = _words(found)
    groups = "|".join(second)
    cases = [
        f"    {verb.name!r}) options='{' '.join(verb.spellings)}' choices='{' '.join(verb.choices)}' ;;"
        for verb in found
    ]
    below = [f"    {word}) words='{' '.join(words)}' ;;" for word, words in second.items()]
    return "\n".join([
        "_twofold() {",
        "  local cur=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]}",
        "  local at=2 options= choices= words=",
        f"  case $verb in {groups}) verb=\"$verb ${{COMP_WORDS[2]}}\"; at=3 ;; esac",
        "  case $verb in", *cases, "  esac",
        f"  if (( COMP_CWORD == 1 )); then words='{' '.join(first)} --help --version'",
        "  elif (( COMP_CWORD == 2 && at == 3 )); then case ${COMP_WORDS[1]} in", *below, "    esac",
        "  elif [[ $cur == -* ]]; then words=$options",
        "  elif (( COMP_CWORD == at )); then words=$choices",
        "  fi",
        "  COMPREPLY=()",
        "  if [[ -n $words ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")); fi",
        "}",
        "complete -o default -o bashdefault -F _twofold twofold",
    ]) + "\n"  # fmt: skip


def zsh(found: list[Verb]) -> str:
    """The script of zsh."""
    first, second = _words(found)

    def described(pairs: Mapping[str, str]) -> str:
        return " ".join(_quoted(f"{word.replace(':', chr(92) + ':')}:{text}") for word, text in pairs.items())

    lines = ["#compdef twofold", "_twofold() {", "  local verb=$words[2] at=3", "  local -a found"]
    told = described({w: panel_of(w)[1] for w in first})
    lines += [f"  if (( CURRENT == 2 )); then found=({told}); _describe verb found; return; fi"]
    for word, below in second.items():
        told = described({w: panel_of(f"{word} {w}")[1] for w in below})
        lines += [f"  if [[ $verb == {word} ]]; then",
                  f"    if (( CURRENT == 3 )); then found=({told}); _describe verb found; return; fi",
                  '    verb="$verb $words[3]"; at=4', "  fi"]  # fmt: skip
    lines += ["  case $verb in"]
    for verb in found:
        options = described({s: option.help for option in verb.options for s in option.spellings})
        body = f"if [[ $words[CURRENT] == -* ]]; then found=({options}); _describe option found;"
        if verb.choices:
            body += f" elif (( CURRENT == at )); then found=({' '.join(verb.choices)}); _describe value found;"
        lines += [f"    '{verb.name}') {body} else _files; fi ;;"]
    return "\n".join([*lines, "  esac", "}", "compdef _twofold twofold"]) + "\n"


def fish(found: list[Verb]) -> str:
    """The script of fish."""
    first, second = _words(found)
    lines = [
        f"complete -c twofold -n __fish_use_subcommand -a {word} -d {_quoted(panel_of(word)[1])}" for word in first
    ]
    for word, below in second.items():
        open_ = f"__fish_seen_subcommand_from {word}; and not __fish_seen_subcommand_from {' '.join(below)}"
        lines += [f"complete -c twofold -f -n '{open_}' -a {w} -d {_quoted(panel_of(f'{word} {w}')[1])}" for w in below]
    for verb in found:
        when = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in verb.name.split())
        if verb.choices:
            lines += [f"complete -c twofold -n '{when}' -a {_quoted(' '.join(verb.choices))}"]
        for option in verb.options:
            names = " ".join(f"-l {s[2:]}" if s.startswith("--") else f"-s {s[1:]}" for s in option.spellings)
            value = " -r" if option.takes_value else ""
            lines += [f"complete -c twofold -n '{when}' {names}{value} -d {_quoted(option.help)}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A text for zsh or fish, in single quotes: an apostrophe becomes a typographic one."""
    return "'" + text.replace("\\", "").replace("'", "’") + "'"


SCRIPTS: Mapping[Shell, Callable[[list[Verb]], str]] = {Shell.BASH: bash, Shell.ZSH: zsh, Shell.FISH: fish}
