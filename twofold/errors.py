"""Errors that a user can act on: where it happened, what is wrong, what to do."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """The first line of another library's error, or the name of its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class TwofoldError(Exception):
    """A message for the user in at most three parts; the command line prints it without a traceback.

    `where` names a place (file, row, field, step), `what` the fault, `remedy` what to do. Each may be "".
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        return "\n".join([*lines, f"  → {self.remedy}"] if self.remedy else lines)


class RecipeError(TwofoldError):
    """A recipe, an override or a flag is not valid."""


class DataError(TwofoldError):
    """A file or a row cannot be used."""


class LeakError(DataError):
    """A model would be evaluated on a problem that it was trained on."""


class ModelError(TwofoldError):
    """A model, tokenizer or adapter cannot be loaded or does not fit the request."""


class CheckpointError(TwofoldError):
    """No checkpoint can be resumed, or it belongs to another run."""


class BusyError(TwofoldError):
    """Another process writes to the same place."""


class LostProcessError(TwofoldError):
    """Another process of the run has ended, or its host cannot be reached. This one cannot continue without it."""

    exit_code = 5


class NonFiniteError(TwofoldError):
    """A loss, gradient or log-probability is not finite; nothing was updated."""

    exit_code = 3


class BrokenUpdateError(NonFiniteError):
    """A weight, or its optimizer state, is not finite after an update. The update was not saved."""


class ServerError(TwofoldError):
    """A server does not answer, or refuses a request. Its earlier answers are stored."""

    exit_code = 4
