"""Opening object storage as an iterator of sharded batches.

Translates options; order, resume and reading are the core's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

import s3dlio
from s3dlio.errors import OptionError
from s3dlio_jax.iterator import ShardedIterator
from s3dlio_jax.tensors import Placement, default_sharding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jax.sharding import Sharding

    from s3dlio.storage import StorageOptions

__all__ = ["sharded_iterator"]


def sharded_iterator(
    uri: str,
    *,
    global_batch_size: int,
    sharding: Sharding | Mapping[str, Sharding] | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    last: s3dlio.Last | None = None,
    max_in_flight: int = 32,
    prefetch_bytes: int = 256 << 20,
    format: str | None = None,
    fields: Iterable[str] | None = None,
    pattern: str | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    state: Mapping[str, Any] | None = None,
) -> ShardedIterator:
    """Batches of the samples below a URI as global arrays; each process reads its own rows.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``. Listed here, and its first sample read.
        global_batch_size: samples that all processes take together in a step; divisible by their number.
        sharding: of all fields, or field -> sharding. The axes of a ``NamedSharding`` beyond a field's own are
            left out. By default the batch axis is divided over all devices.
        shuffle: permute the samples, anew in every epoch.
        seed: of the permutation; the same in all processes.
        drop_last: leave out an incomplete final batch; short for ``last="drop"``.
        last: "short", "pad" or "drop" an incomplete final batch; see ``s3dlio.Last``. By default "short" where
            ``sharding`` can place it and there is one process, else "pad". A short one makes ``jit`` compile
            once more.
        max_in_flight: requests at the same time, a thread each.
        prefetch_bytes: bytes of objects read ahead.
        format: "npz", "npy" or "raw"; None decides by the keys' suffix.
        fields: names of the fields to deliver; None for all.
        pattern: regular expression that a key must contain below ``uri``.
        storage_options: endpoint, credentials, engine; see ``s3dlio.dataset``.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.
        state: a saved state to go on from, of any framework.

    Raises:
        NotFoundError, AccessError, OptionError, FormatError: as ``s3dlio.dataset`` and ``s3dlio.DataLoader``.
        OptionError: batches cannot be placed by ``sharding``.
        StateError: the state does not fit.
    """
    data = s3dlio.dataset(
        uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options, filesystem=filesystem
    )
    processes = jax.process_count()
    if global_batch_size < 1 or global_batch_size % processes:
        raise OptionError(
            f"global_batch_size: got {global_batch_size}, expected a multiple of the {processes} processes.",
            field="global_batch_size",
        )
    placement = Placement(default_sharding() if sharding is None else sharding, sample=data[0], uri=data.uri(0))
    rest = len(data) % global_batch_size
    if last is None:
        last = "drop" if drop_last else "pad" if processes > 1 or placement.obstacle(rest) else "short"
    loader = s3dlio.DataLoader(
        data,
        batch_size=global_batch_size // processes,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
        last=last,
        rank=jax.process_index(),
        world_size=processes,
        max_in_flight=max_in_flight,
        prefetch_bytes=prefetch_bytes,
    )
    found = ShardedIterator(loader, placement)
    if state is not None:
        found.load_state_dict(state)
    return found
