"""The loader names of the Rust s3dlio's Python guide: batches of bytes, ``async for`` and ``for``.

Owns: the guide's option names and their meaning. Everything below them is the reading floor's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from s3dlio.datasets import Dataset, dataset, epoch_order
from s3dlio.errors import OptionError
from s3dlio.reading import FetchOptions, Request, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Self

    from s3dlio.reading import Fetch

__all__ = [
    "AsyncLoaderOptions",
    "PyBytesAsyncDataLoader",
    "PyDataset",
    "create_async_loader",
    "create_async_loader_from_dataset",
    "create_dataset",
]

Workload = Literal["auto", "small", "medium", "large", "batch"]

_MIB = 1 << 20
_BUDGET = 1 << 30
"""Bytes read ahead at most, whatever ``prefetch`` says. One larger object is still read, alone."""
_CONCURRENCY: dict[str, int] = {"small": 64, "medium": 16, "large": 8, "batch": 64}
"""Requests in flight by workload. Small objects are bound by latency, large ones by their parts' bandwidth."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AsyncLoaderOptions:
    """The guide's options. An explicit ``max_concurrency`` or ``part_size`` wins over ``adaptive``.

    Raises:
        OptionError: an unknown name, or a value out of its range.
    """

    batch_size: int = 32
    """Objects in a batch, >= 1."""
    prefetch: int = 2
    """Batches fetched ahead, >= 1, as far as they fit into 1 GiB."""
    max_concurrency: int | None = None
    """Requests at the same time; None: 16, or what ``adaptive`` chooses."""
    shuffle: bool = False
    """Permute the objects, anew in every pass."""
    seed: int | None = None
    """Of the permutation; None is 0."""
    part_size: int = 8 * _MIB
    """Bytes of the parallel ranges of a large object."""
    adaptive: Mapping[str, str] | None = None
    """``{"mode": "enabled" | "disabled", "workload_type": "auto" | "small" | "medium" | "large" | "batch"}``"""

    @classmethod
    def from_dict(cls, options: Mapping[str, Any] | None) -> Self:
        """The options of a dict as the guide shows it; an unknown name is an error, not a warning."""
        given = dict(options or {})
        legal = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(given) - set(legal))
        if unknown:
            raise OptionError(
                f"loader options: got {unknown[0]!r}, expected one of {', '.join(legal)}.", field=unknown[0]
            )
        return cls(**given)

    def __post_init__(self) -> None:
        for name in ("batch_size", "prefetch", "part_size", "max_concurrency"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise OptionError(f"{name}: got {value!r}, expected a whole number >= 1.", field=name)
        if not isinstance(self.shuffle, bool):
            raise OptionError(f"shuffle: got {self.shuffle!r}, expected True or False.", field="shuffle")
        legal = {"mode": ("enabled", "disabled"), "workload_type": ("auto", *_CONCURRENCY)}
        for name, value in (self.adaptive or {}).items():
            if value not in legal.get(name, ()):
                choices = ", ".join(legal[name]) if name in legal else f"the names {', '.join(legal)}"
                raise OptionError(f"adaptive: got {name}={value!r}, expected {choices}.", field="adaptive")

    def fetch_options(self, sizes: list[int]) -> FetchOptions:
        """What may be in flight for objects of these sizes."""
        concurrency = self.max_concurrency
        if concurrency is None:
            adaptive = self.adaptive or {}
            enabled = bool(adaptive) and adaptive.get("mode", "enabled") == "enabled"
            concurrency = _CONCURRENCY[self._workload(sizes)] if enabled else 16
        return FetchOptions(
            max_in_flight=concurrency,
            max_ahead=self.prefetch * self.batch_size,
            budget_bytes=_BUDGET,
            part_bytes=self.part_size,
        )

    def _workload(self, sizes: list[int]) -> str:
        chosen = (self.adaptive or {}).get("workload_type", "auto")
        if chosen != "auto":
            return chosen
        median = sorted(sizes)[len(sizes) // 2] if sizes else 0
        return "small" if median < _MIB else "medium" if median <= 64 * _MIB else "large"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PyDataset:
    """Objects as they are, and the options to load them with. ``len`` is their number."""

    objects: Dataset
    """One raw object a sample."""
    options: AsyncLoaderOptions
    """Of the loaders made from it."""

    def __len__(self) -> int:
        return len(self.objects)


class _Batches:
    """One pass: the buffers of a fetch as lists of bytes.

    Threads: one consumer; ``close`` from anywhere, which wakes it.
    """

    def __init__(self, buffers: Fetch, batch_size: int) -> None:
        self._buffers = buffers
        self._batch_size = batch_size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[bytes]:
        batch = [buffer.to_pybytes() for _, buffer in itertools.islice(self._buffers, self._batch_size)]
        if not batch:
            raise StopIteration
        return batch

    def close(self) -> None:
        self._buffers.close()


class PyBytesAsyncDataLoader:
    """Batches of whole objects as ``list[bytes]``, for ``async for`` and ``for``.

    Each pass is one epoch; the next pass is shuffled anew. An error ends the pass where it happened, and so
    does cancelling the task that waits for a batch: both stop the reading.

    Args:
        source: what to load.
    """

    def __init__(self, source: PyDataset) -> None:
        self._source = source
        self._epoch = 0

    def __len__(self) -> int:
        """Batches in a pass."""
        return (len(self._source) + self._source.options.batch_size - 1) // self._source.options.batch_size

    def __iter__(self) -> Iterator[list[bytes]]:
        """A new pass. Dropping the iterator stops the reading."""
        return self._pass()

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        """A new pass, which waits on a thread of the event loop's default executor.

        Leaving ``async for`` early stops the reading when the iterator is closed, which the event loop does
        soon; ``contextlib.aclosing`` does it at once.
        """
        batches = self._pass()
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch
        finally:
            batches.close()  # after a cancellation the thread still waits in next(): this wakes it

    def _pass(self) -> _Batches:
        objects, options = self._source.objects, self._source.options
        manifest = objects.manifest
        order = epoch_order(len(objects), shuffle=options.shuffle, seed=options.seed or 0, epoch=self._epoch)
        self._epoch += 1
        numbers = order(np.arange(len(objects), dtype=np.int64)).tolist()
        requests = (Request(key=manifest.key(n), end=manifest.size(n), whole=True) for n in numbers)
        return _Batches(fetch(objects.store, requests, options.fetch_options(manifest.sizes())), options.batch_size)


def create_dataset(uri: str, opts: Mapping[str, Any] | None = None) -> PyDataset:
    """The objects below ``uri``, and the options of ``AsyncLoaderOptions``. Lists the prefix.

    Raises:
        NotFoundError, AccessError: as ``s3dlio.dataset``.
        OptionError: an unknown option, or a value out of its range.
    """
    options = AsyncLoaderOptions.from_dict(opts)
    return PyDataset(objects=dataset(uri, format="raw"), options=options)


def create_async_loader(uri: str, opts: Mapping[str, Any] | None = None) -> PyBytesAsyncDataLoader:
    """Batches of the objects below ``uri`` as ``list[bytes]``, for ``async for`` and ``for``. Lists the prefix.

    Raises:
        NotFoundError, AccessError: as ``s3dlio.dataset``.
        OptionError: an unknown option, or a value out of its range.
    """
    return PyBytesAsyncDataLoader(create_dataset(uri, opts))


def create_async_loader_from_dataset(source: PyDataset) -> PyBytesAsyncDataLoader:
    """The loader of what ``create_dataset`` gave."""
    return PyBytesAsyncDataLoader(source)
