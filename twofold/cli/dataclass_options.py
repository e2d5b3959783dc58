"""Many options of one verb as one object: a frozen dataclass whose fields are the options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from inspect import Parameter, Signature
from typing import Any, get_type_hints


def spread(verb: Callable[[Any], None]) -> Callable[..., None]:
    """Converts `verb`, which takes one dataclass of `Annotated` fields, to a parameter per field, as typer requires."""
    hints = get_type_hints(verb)
    options: Any = next(iter(hints.values()))
    annotations = get_type_hints(options, include_extras=True)

    def spread_out(**given: Any) -> None:
        verb(options(**given))

    spread_out.__doc__, spread_out.__name__ = verb.__doc__, verb.__name__
    spread_out.__annotations__ = annotations
    spread_out.__signature__ = Signature(  # type: ignore[attr-defined]  # what inspect.signature reads
        [Parameter(f.name, Parameter.KEYWORD_ONLY, default=Parameter.empty if f.default is MISSING else f.default,
                   annotation=annotations[f.name]) for f in sorted(fields(options), key=lambda f: f.kw_only is True)]
    )  # fmt: skip
    return spread_out
