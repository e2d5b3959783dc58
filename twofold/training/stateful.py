"""State that a checkpoint saves in addition to weights, optimizer and logs: a moving reference, a running mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Stateful(Protocol):
    """An object with state that the loop saves and restores. The loop calls it after every step."""

    @property
    def name(self) -> str:
        """The name of its state in a checkpoint: letters, digits, `-`; unique in a run."""
        ...

    def tensors(self) -> Mapping[str, Tensor]: ...

    def state_dict(self) -> dict[str, Any]:
        """The rest of the state, as JSON."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None: ...

    def on_step_end(self, steps: int) -> None:
        """The policy has just made step number `steps`, counted from 1."""
        ...
