"""What must survive a stop beside weights, optimizer and logs: a moving reference, a running mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor


class Stateful(Protocol):
    """Something with a state of its own that the loop saves, restores and tells of every step."""

    @property
    def name(self) -> str:
        """What its state is called in a checkpoint: letters, digits, `-`; no two of a run share one."""
        ...

    def tensors(self) -> Mapping[str, Tensor]: ...

    def state_dict(self) -> dict[str, Any]:
        """The rest of the state, as JSON."""
        ...

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None: ...

    def on_step_end(self, steps: int) -> None:
        """The policy has just made step number `steps`, counted from 1."""
        ...
