"""Decoding with fixed shapes: a cache of fixed slots and columns, and CUDA graphs that replay a step over it.

Rows are padded on the right: a token's column is its position, and a mask computed from positions hides the rest. So a
slot can be refilled in any model with attention in every layer, including sliding windows. The weights are the policy's
own. A graph contains their addresses, and is dropped if these change.
Shapes: A slots, W columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from twofold.errors import first_line
from twofold.models.attention import stock_name
from twofold.models.seq2seq import encodes_prompts
from twofold.sampling.cache import Prefilled, new_cache, next_logits, step_error

SMALLEST = 8  # slots of the smallest bucket
WARM = 2  # steps run for real on the capturing stream before a step is captured
FULL, SLIDING = "full_attention", "sliding_attention"


class Unfit(Exception):
    """The model cannot be decoded with a static cache."""


def buckets(slots: int) -> list[int]:
    """The possible numbers of slots of a step: `slots`, and 8, 16, 32 … below it."""
    sizes = [SMALLEST]
    while sizes[-1] * 2 < slots:
        sizes.append(sizes[-1] * 2)
    return [size for size in sizes if size < slots] + [slots]


def bucket_width(width: int) -> int:
    """`width` rounded up to a multiple of 64; above 512 the step grows to at most a quarter. Few graphs, little
    waste."""
    step = max(64, 1 << max(0, (width - 1).bit_length() - 3))
    return -(-width // step) * step


@dataclass
class Frame:
    """The part of the buffers that a step reads, and where it writes; shared by all layers."""

    row_A: Tensor
    column_A: Tensor
    size: int = 0
    width: int = 0


class SlotLayer(CacheLayerMixin):
    """One layer of the cache: buffers [capacity, heads, columns, d], of which a step reads `size` × `width`."""

    is_sliding = False

    def __init__(self, frame: Frame, columns: int) -> None:
        super().__init__()
        self.frame, self.columns = frame, columns

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        capacity = len(self.frame.row_A)

        def buffer(states: Tensor) -> Tensor:
            return states.new_zeros(capacity, states.shape[1], self.columns, states.shape[3])

        self.keys, self.values = buffer(key_states), buffer(value_states)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        frame = self.frame
        row_A, column_A = frame.row_A[: frame.size], frame.column_A[: frame.size]
        self.keys[row_A, :, column_A] = key_states[:, :, 0]
        self.values[row_A, :, column_A] = value_states[:, :, 0]
        return self.keys[: frame.size, :, : frame.width], self.values[: frame.size, :, : frame.width]

    def fill(self, slot_A: Tensor, other: DynamicLayer, length_A: Tensor) -> None:
        """Put the rows of `other`, which are padded on the left, into these slots, padded on the right."""
        assert other.keys is not None
        assert other.values is not None
        if not self.is_initialized:
            self.lazy_initialization(other.keys, other.values)
        kept, longest = other.keys.shape[-2], int(length_A.max())
        column_T = torch.arange(longest, device=length_A.device)
        from_AT = (column_T - length_A[:, None] + kept).clamp(0, kept - 1)
        for buffer, states in ((self.keys, other.keys), (self.values, other.values)):
            assert buffer is not None
            index = from_AT[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3])
            buffer[slot_A, :, :longest] = states.gather(2, index)

    def keep(self, index: Tensor) -> None:
        """Move these rows to the front."""
        for buffer in (self.keys, self.values):
            assert buffer is not None
            buffer[: len(index)] = buffer[index]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.frame.width, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return self.columns


@dataclass(frozen=True)
class Windows:
    """The sliding window of each kind of layer; None for full attention."""

    by_kind: Mapping[str, int | None]

    @classmethod
    def of(cls, model: PreTrainedModel) -> Windows:
        """Raises Unfit for a model with other layers than full and sliding attention."""
        found: dict[str, int | None] = {}
        for layer in new_cache(model).layers:
            if isinstance(layer, DynamicSlidingWindowLayer):
                found[SLIDING] = layer.sliding_window
            elif isinstance(layer, DynamicLayer):
                found[FULL] = None
            else:
                raise Unfit(f"a cache of {type(layer).__name__} has no static form here")
        asked = set(getattr(model.config.get_text_config(), "layer_types", None) or found)
        if not found or asked - {FULL, SLIDING}:
            raise Unfit(f"layers of {', '.join(sorted(asked - {FULL, SLIDING})) or 'no known kind'}")
        return cls(found)

    def masks(self, position_A: Tensor, width: int, additive: torch.dtype | None) -> Tensor | dict[str, Tensor]:
        """The masks of the attention, [A, 1, 1, W]: one, or one for each kind of layer. `additive` is the dtype of a
        mask that is added to the scores; None for a boolean mask of the columns to read."""
        column_W = torch.arange(width, device=position_A.device)
        made: dict[str, Tensor] = {}
        for kind, window in self.by_kind.items():
            seen_AW = column_W <= position_A[:, None]
            if window is not None:
                seen_AW &= column_W > position_A[:, None] - window
            mask = seen_AW[:, None, None]
            if additive is not None:
                nothing = torch.zeros(mask.shape, dtype=additive, device=mask.device)
                mask = nothing.masked_fill(~mask, torch.finfo(additive).min)
            made[kind] = mask
        return made if len(made) > 1 else next(iter(made.values()))


class StaticStore:
    """A cache with `slots` rows of `columns`. A step reads a part of it, whose size is rounded up to few values."""

    refills = True

    def __init__(self, model: PreTrainedModel, slots: int, columns: int, stride: int) -> None:
        """A step may write `stride` columns between two calls of `settle`. Raises Unfit."""
        self.model, self.columns, self.stride = model, bucket_width(columns), stride
        self.windows, self.sizes = Windows.of(model), buckets(slots)
        self.additive = None if stock_name(model) == "sdpa" else model.dtype
        row_A = torch.arange(slots, device=model.device)
        self.frame = Frame(row_A, torch.zeros_like(row_A), slots, self.columns)
        self.layers = [SlotLayer(self.frame, self.columns) for _ in new_cache(model).layers]
        self.cache = Cache(layers=list(self.layers))

    def fill(self, slot_A: Tensor, start: Prefilled) -> None:
        """Put these prompts into these slots."""
        assert start.cache is not None
        for layer, other in zip(self.layers, start.cache.layers, strict=True):
            assert isinstance(other, DynamicLayer)
            layer.fill(slot_A, other, start.length_A)

    def size_for(self, live: int, size: int) -> int:
        """The smallest bucket that holds `live` rows; 0 for none."""
        return min(size, next(s for s in self.sizes if s >= live)) if live else 0

    def keep(self, index: Tensor) -> None:
        """Move these rows to the front."""
        for layer in self.layers:
            layer.keep(index)

    def settle(self, position_A: Tensor, live_A: Tensor) -> None:
        """Read only the rows in use, and only the columns that unfinished completions can reach before the next
        call."""
        furthest = int(position_A[live_A].max()) + 1 if len(live_A) else 1
        self.frame.size, self.frame.width = len(position_A), min(self.columns, bucket_width(furthest + self.stride))

    @property
    def key(self) -> tuple[int, int]:
        """The shape of a step: it needs one graph per key."""
        return self.frame.size, self.frame.width

    def feed(self, token_A: Tensor, position_A: Tensor) -> Tensor:
        """Logits [A, V] after these tokens, whose keys and values are written at their positions."""
        frame = self.frame
        # Finished completions may be past the columns in use. They write into the last one; nothing reads that.
        column_A = position_A.clamp(max=frame.width - 1)
        frame.column_A[: frame.size] = column_A
        mask = self.windows.masks(column_A, frame.width, self.additive)
        return next_logits(self.model, self.cache, token_A[:, None], position_A[:, None], mask)


def refuse_unfit_model(model: PreTrainedModel, stride: int) -> None:
    """Raise Unfit unless static steps give the model's own logits."""
    if encodes_prompts(model):
        raise Unfit("its prompts are read by an encoder")
    store = StaticStore(model, 2, 9, stride)
    try:
        error = step_error(model, store, lambda prompts: Prefilled.of(prompts, model))
    except Exception as fault:  # of any kind: the layers are not ours
        raise Unfit(f"a static step fails: {first_line(fault)}") from None
    if not error <= (1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1):
        raise Unfit(f"a static step is off by {error:.1e} of the logits")


@dataclass
class Graphs:
    """Steps as CUDA graphs, one per key. On other devices, and after a failed capture, steps run without graphs.

    The first steps of a key run on the capturing stream without capture, which is the warm-up that a capture needs. A
    capture itself computes nothing. A step must always read and write the same buffers.
    """

    device: torch.device
    tell: Callable[[str], None]
    failed: bool = False
    _graphs: dict[Hashable, torch.cuda.CUDAGraph] = field(default_factory=dict[Hashable, torch.cuda.CUDAGraph])
    _warm: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    _stream: torch.cuda.Stream | None = None

    def run(self, key: Hashable, step: Callable[[], None]) -> None:
        """One step."""
        if self.device.type != "cuda" or self.failed:
            step()
        elif key in self._graphs:
            self._graphs[key].replay()
        elif self._warm.get(key, 0) < WARM:
            self._warm[key] = self._warm.get(key, 0) + 1
            self._aside(step)
        elif self._captured(key, step):
            self._graphs[key].replay()
        else:
            step()

    def forget(self) -> None:
        """Drop every graph, since memory that they use has moved."""
        self._graphs.clear()
        self._warm.clear()

    def __len__(self) -> int:
        return len(self._graphs)

    def _aside(self, step: Callable[[], None]) -> None:
        self._stream = self._stream or torch.cuda.Stream(self.device)
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            step()
        torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def _captured(self, key: Hashable, step: Callable[[], None]) -> bool:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                step()
        except RuntimeError as error:
            self.failed = True
            self.forget()
            self.tell(f"no CUDA graph of a decoding step could be captured: {str(error).splitlines()[0]}")
            return False
        self._graphs[key] = graph
        return True


def addresses(model: PreTrainedModel) -> Sequence[int]:
    """The memory addresses of the model's weights."""
    return [t.data_ptr() for t in (*model.parameters(), *model.buffers())]
