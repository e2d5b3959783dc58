"""Sampling one step ahead: while step k trains, the servers sample the completions of step k + 1, with the weights from
the start of step k.

The step determines which weights sample. So the samples are reproducible if the server's own noise is. Requests that
are in progress at a checkpoint use weights that a resumed run no longer has, so a checkpoint waits for their
completions and stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from torch import Tensor

from twofold.errors import ServerError
from twofold.sampling.base import Sample, SampleRequest
from twofold.sampling.servers import Drawn, ServerSampler
from twofold.world import world


class SamplesAhead:
    """A `Sampler` for one step: `turn` gets the samples of the step, and requests those of the next step."""

    name = "drafts-ahead"  # the key of its state in existing checkpoints

    def __init__(self, servers: ServerSampler) -> None:
        self.servers = servers
        self._background = ThreadPoolExecutor(1, thread_name_prefix="samples-ahead")
        self._ready: Drawn | None = None
        self._following: Callable[[], Drawn] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        return self.servers.metrics

    def turn(self, step: int, now: SampleRequest | None, following: SampleRequest | None) -> None:
        """Wait for the samples of `step`, or request them now if that has not happened; then request the next ones."""
        ahead, self._ready, self._following = self._following, None, None
        drawn = None if ahead is None else ahead()
        if now is not None:
            self._ready = drawn if drawn is not None and drawn.seed == now.seed else self._at_once(now, step)
        if following is not None:
            self._following = self._begin(following, step)

    def sample(
        self, prompts: Sequence[Tensor], *, samples: int = 1, seed: tuple[int, int] = (0, 0)
    ) -> list[list[Sample]]:
        """The samples of the last `turn`. Raises ValueError for any other step."""
        if self._ready is None or self._ready.seed != seed:
            raise ValueError(f"no completions were requested for seed and step {seed}")
        return self.servers.scored(SampleRequest(prompts, samples, seed), self._ready)

    def _at_once(self, request: SampleRequest, step: int) -> Drawn:
        self.servers.prepare(request, step)
        return self.servers.arrived(request, lambda: self.servers.replies(request))

    def _begin(self, request: SampleRequest, step: int) -> Callable[[], Drawn]:
        """Request samples in the background of the first process; the result waits for them."""
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
        """The samples of the next step; waits for them."""
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
        """Does nothing: `turn` handles steps."""

    def close(self) -> None:
        """Stop all requests in progress."""
        self.servers.close()
        self._background.shutdown(wait=False, cancel_futures=True)
