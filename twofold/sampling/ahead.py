"""Samples one step ahead: while step k trains, the servers draw the samples of step k + 1 with the weights that k began
with.

Which weights draw is a function of the step, and so are the samples where the server's noise is. What is under way when
the state is saved was asked of weights that will be gone, so a checkpoint waits for it and holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from torch import Tensor

from twofold.errors import ServerError
from twofold.sampling.base import Draft, DraftRequest
from twofold.sampling.servers import Drawn, ServerSampler
from twofold.world import world


class DraftsAhead:
    """A `Sampler` that has the samples of a step after `turn`, which also begins those of the next one."""

    name = "drafts-ahead"

    def __init__(self, servers: ServerSampler) -> None:
        self.servers = servers
        self._background = ThreadPoolExecutor(1, thread_name_prefix="drafts-ahead")
        self._ready: Drawn | None = None
        self._following: Callable[[], Drawn] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        return self.servers.metrics

    def turn(self, step: int, now: DraftRequest | None, following: DraftRequest | None) -> None:
        """Wait for the samples of `step`, or have them drawn where they were not begun; then begin the next ones."""
        ahead, self._ready, self._following = self._following, None, None
        drawn = None if ahead is None else ahead()
        if now is not None:
            self._ready = drawn if drawn is not None and drawn.seed == now.seed else self._at_once(now, step)
        if following is not None:
            self._following = self._begin(following, step)

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Draft]]:
        """The samples of the last `turn`. Raises ValueError for others."""
        if self._ready is None or self._ready.seed != seed:
            raise ValueError(f"the drafts of seed and step {seed} were not planned")
        return self.servers.scored(DraftRequest(prompts, samples, seed), self._ready)

    def _at_once(self, request: DraftRequest, step: int) -> Drawn:
        self.servers.prepare(request, step)
        return self.servers.arrived(request, lambda: self.servers.replies(request))

    def _begin(self, request: DraftRequest, step: int) -> Callable[[], Drawn]:
        """What waits for samples that are drawn from now on, in the background of the first process."""
        self.servers.prepare(request, step)
        under_way: Future[list[dict[str, Any]]] | None = None
        if world().first:
            under_way = self._background.submit(self.servers.replies, request)

        def replies() -> list[dict[str, Any]]:
            assert under_way is not None, "only the first process is asked"
            return under_way.result()

        return lambda: self.servers.arrived(request, replies)

    def tensors(self) -> Mapping[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The samples of the next step, once they are there."""
        if self._following is None:
            return {}
        try:
            drawn = self._following()
        except ServerError as error:  # the state is saved without them, and the next step raises it
            self.servers.note(f"a run that resumes here requests its samples again, with newer weights: {error.what}")
            return {}
        self._following = lambda: drawn
        return asdict(drawn)

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        if numbers:
            drawn = Drawn(**{**numbers, "seed": tuple(numbers["seed"])})
            self._following = lambda: drawn

    def on_step_end(self, steps: int) -> None:
        """Samples do not depend on it."""

    def close(self) -> None:
        """End what is under way."""
        self.servers.close()
        self._background.shutdown(wait=False, cancel_futures=True)
