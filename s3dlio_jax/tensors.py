"""Batches as jax.Array, placed by shardings: which field goes where, and whether it fits.

Owns: the check of shapes against shardings. Must not know: loaders, epochs.

Guarantees: memory that JAX aliases (on the CPU it does, if aligned) is never written to again by s3dlio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from s3dlio.errors import FormatError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3dlio.arrays import Array, Batch, Sample

__all__ = ["Placement", "default_sharding"]


def default_sharding() -> Sharding:
    """The batch axis over all devices of all processes."""
    devices = jax.devices()
    if len(devices) == 1:
        return SingleDeviceSharding(devices[0])
    return NamedSharding(Mesh(np.array(devices), ("batch",)), PartitionSpec("batch"))


class Placement:
    """Puts batches where their shardings say.

    Args:
        sharding: for all fields, or field -> sharding. The axes of a ``NamedSharding`` beyond a field's own
            are left out, so that one for images also places their labels.
        sample: the first sample, for the fields and their shapes.
        uri: where the sample comes from, for errors.

    Raises:
        OptionError: a field without a sharding, or a sharding without a field.
        FormatError: a dtype that JAX does not have, such as text.
    """

    def __init__(self, sharding: Sharding | Mapping[str, Sharding], *, sample: Sample, uri: str) -> None:
        self._uri = uri
        self._shapes = {field: value.shape for field, value in sorted(sample.items())}
        self._dtypes = {field: value.dtype.newbyteorder("=") for field, value in sorted(sample.items())}
        given = dict.fromkeys(sample, sharding) if isinstance(sharding, Sharding) else dict(sharding)
        if set(given) != set(sample):
            raise OptionError(
                f"sharding: for {', '.join(sorted(given)) or 'no field'}, expected for {', '.join(sorted(sample))} as "
                f"in {uri}. Name each field once, or pass one sharding for all.",
                field="sharding",
            )
        self._shardings = {field: _truncated(given[field], 1 + len(self._shapes[field])) for field in self._shapes}
        for field, dtype in self._dtypes.items():
            if dtype.kind not in "biufc" and dtype.type.__module__.partition(".")[0] != "ml_dtypes":
                raise FormatError(
                    f"read {uri}: field {field!r} is {dtype}, expected a dtype that JAX has. "
                    "Leave it out with fields=, or rewrite it as numbers.",
                    uri=uri,
                )

    def obstacle(self, rows: int) -> str:
        """Why a batch of ``rows`` rows of all processes cannot be placed; empty if it can."""
        for field, sharding in self._shardings.items():
            shape = (rows, *self._shapes[field])
            try:
                sharding.shard_shape(shape)
            except ValueError as error:
                return f"field {field!r} of shape {shape} does not divide over its sharding ({error})"
        return ""

    def arrays(self, batch: Batch, *, name: Callable[[int], str]) -> dict[str, jax.Array]:
        """The batch of this process as its part of global arrays. Does not wait for copies to devices.

        Args:
            batch: of the core loader.
            name: the object that a row comes from, for errors.

        Raises:
            FormatError: a field that is not as in the first sample.
        """
        return {field: self._array(field, batch.get(field), name) for field in self._shapes}

    def _array(self, field: str, rows: Array | list[Array] | None, name: Callable[[int], str]) -> jax.Array:
        if not isinstance(rows, np.ndarray) or not self._fits(field, rows[:0]):
            raise self._misfit(field, rows, name)
        shape = (len(rows) * jax.process_count(), *self._shapes[field])
        return jax.make_array_from_process_local_data(self._shardings[field], rows, shape)

    def _fits(self, field: str, rows: Array) -> bool:
        return rows.shape[1:] == self._shapes[field] and rows.dtype == self._dtypes[field]

    def _misfit(self, field: str, rows: Array | list[Array] | None, name: Callable[[int], str]) -> FormatError:
        row, found = 0, "missing"
        if rows is not None:
            row = next((number for number, value in enumerate(rows) if not self._fits(field, value[None])), 0)
            found = f"{rows[row].dtype} {rows[row].shape}"
        return FormatError(
            f"read {name(row)}: field {field!r} is {found}, expected {self._dtypes[field]} {self._shapes[field]} as in "
            f"{self._uri}. Arrays of JAX have one shape: pad the objects, leave the field out with fields=, or take "
            "batches from s3dlio.DataLoader, which gives lists.",
            uri=name(row),
        )


def _truncated(sharding: Sharding, axes: int) -> Sharding:
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > axes:
        return sharding.update(spec=PartitionSpec(*sharding.spec[:axes]))
    return sharding
