"""The loader names of the Rust s3dlio's Python guide: batches of bytes, ``async for`` and ``for``.

Owns: the guide's option names and their meaning. Everything below them is the reading floor's.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from s3dlio.dataset import Dataset, dataset, epoch_order
from s3dlio.errors import OptionError
from s3dlio.reading import FetchOptions, Request, fetch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from typing import Self

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
    """Batches fetched ahead, >= 1."""
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
        ahead = self.prefetch * self.batch_size
        return FetchOptions(
            max_in_flight=concurrency,
            budget_bytes=max(1, ahead * max(sizes, default=1)),
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


class PyBytesAsyncDataLoader:
    """Batches of whole objects as ``list[bytes]``, for ``async for`` and ``for``.

    Each pass is one epoch; the next pass is shuffled anew. An error ends the pass where it happened.

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
        objects, options = self._source.objects, self._source.options
        manifest = objects.manifest
        order = epoch_order(len(objects), shuffle=options.shuffle, seed=options.seed or 0, epoch=self._epoch)
        self._epoch += 1
        numbers = order(np.arange(len(objects), dtype=np.int64)).tolist()
        requests = (Request(key=manifest.key(n), end=manifest.size(n), whole=True) for n in numbers)
        batch: list[bytes] = []
        for _, buffer in fetch(objects.store, requests, options.fetch_options(manifest.sizes())):
            batch.append(buffer.to_pybytes())
            if len(batch) == options.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        batches = iter(self)
        try:
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch
        finally:
            batches.close()  # type: ignore[attr-defined]  # a generator


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
