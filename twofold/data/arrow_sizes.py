"""What the rows of an Arrow record batch hold, before any is made: a value that is stored once may be meant often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twofold.data.unpacking import Allowance

if TYPE_CHECKING:
    import numpy as np

VALUE = 8
"""Bytes of a value that is no text, at least."""
AT_ONCE, BUDGET = 64, 64 * 2**20
"""Rows, and bytes of rows, that are decoded together."""


def are_small(batch: Any, most: int) -> bool:
    """Whether all rows of a batch hold less than one may, each value of theirs being there once."""
    whole = batch.num_rows <= AT_ONCE and batch.nbytes <= most
    return whole and not any(_shares(field.type) for field in batch.schema)


def _shares(kind: Any) -> bool:
    """Whether several values of an array may be one and the same, stored once."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        return _shares(kind.storage_type)
    once = pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind) or (
        pa.types.is_list(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind)
    )  # fmt: skip
    return not once or any(_shares(kind.field(i).type) for i in range(kind.num_fields))


def row_sizes(batch: Any, allowance: Allowance) -> np.ndarray:
    """Bytes of each row of a record batch."""
    import numpy as np

    allowance.refuse(VALUE * batch.num_rows)
    return sum((_sizes(column, allowance) for column in batch.columns), np.zeros(batch.num_rows))


def _sizes(array: Any, allowance: Allowance) -> np.ndarray:
    """Bytes of each value of an array: of a text its length, of a list what its items have."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, count = array.type, len(array)
    allowance.refuse(VALUE * count)
    if isinstance(kind, pa.BaseExtensionType):
        return _sizes(array.storage, allowance)
    if pa.types.is_dictionary(kind):
        return np.append(_sizes(array.dictionary, allowance), 0)[_integers(array.indices, missing=-1)]
    if pa.types.is_run_end_encoded(kind):
        ends = _integers(array.run_ends)
        return _sizes(array.values, allowance)[np.searchsorted(ends, array.offset + np.arange(count), side="right")]
    if pa.types.is_struct(kind):
        return sum((_sizes(array.field(i), allowance) for i in range(kind.num_fields)), np.full(count, float(VALUE)))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        begins = _integers(array.offsets)
        return _of_lists(array.values, begins, begins + _integers(array.sizes), allowance)
    if pa.types.is_fixed_size_list(kind):
        begins = (array.offset + np.arange(count)) * kind.list_size
        return _of_lists(array.values, begins, begins + kind.list_size, allowance)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        edges = _integers(array.offsets)
        return _of_lists(array.values, edges[:-1], edges[1:], allowance)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, 4)
        return VALUE + views[array.offset : array.offset + count, 0].astype(float)
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_string(kind):
        return VALUE + _integers(pc.binary_length(array)).astype(float)  # pyright: ignore[reportAttributeAccessIssue]  # made at import
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return VALUE + _integers(pc.binary_length(array)).astype(float)  # pyright: ignore[reportAttributeAccessIssue]  # made at import
    return np.full(count, float(VALUE))


def _of_lists(values: Any, begins: np.ndarray, ends: np.ndarray, allowance: Allowance) -> np.ndarray:
    import numpy as np

    before = np.concatenate([[0.0], np.cumsum(_sizes(values, allowance))])
    return VALUE + before[ends] - before[begins]


def _integers(array: Any, missing: int = 0) -> np.ndarray:
    import numpy as np
    import pyarrow as pa

    return array.cast(pa.int64()).fill_null(missing).to_numpy(zero_copy_only=False).astype(np.int64)


def at_once(sizes: np.ndarray, most: int) -> list[slice]:
    """Runs of rows of these `sizes` that are decoded together. A row of more than `most` bytes is a run of its own."""
    runs, begin, used = list[slice](), 0, 0.0
    for i, size in enumerate(sizes.tolist()):
        if i > begin and (i - begin == AT_ONCE or used + size > BUDGET or max(size, used) > most):
            runs.append(slice(begin, i))
            begin, used = i, 0.0
        used += size
    return [*runs, slice(begin, len(sizes))] if len(sizes) else runs
