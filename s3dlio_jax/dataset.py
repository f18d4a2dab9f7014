"""An iterator of sharded batches over object storage: each pass the next epoch.

Translates what the core loader gives; order, resume and reading are the core's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

import s3dlio
from s3dlio.errors import ClosedError, OptionError
from s3dlio_jax.tensors import Placement, default_sharding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

    from jax.sharding import Sharding

    from s3dlio.storage import StorageOptions

__all__ = ["ShardedIterator", "sharded_iterator"]


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
    state: Mapping[str, Any] | None = None,
) -> ShardedIterator:
    """Batches of the samples below a URI as global arrays; each process reads its own rows.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``. Listed here, and its first sample read.
        global_batch_size: samples that all processes take together in a step; divisible by their number.
        sharding: of all fields, or field -> sharding. The axes of a ``NamedSharding`` beyond a field's own are
            left out. By default the batch axis is divided over all devices.
        shuffle, seed, drop_last, max_in_flight, prefetch_bytes: see ``s3dlio.DataLoader``.
        last: "short", "pad" or "drop" an incomplete final batch. By default "short" where ``sharding`` can
            place it and there is one process, else "pad". A short batch makes ``jit`` compile once more.
        format, fields, pattern, storage_options: see ``s3dlio.dataset``.
        state: a saved state to go on from, of any framework.

    Raises:
        NotFoundError, AccessError, OptionError, FormatError: as ``s3dlio.dataset`` and ``s3dlio.DataLoader``.
        OptionError: batches cannot be placed by ``sharding``.
        StateError: the state does not fit.
    """
    data = s3dlio.dataset(uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options)
    processes = jax.process_count()
    if global_batch_size < 1 or global_batch_size % processes:
        raise OptionError(
            f"global_batch_size: got {global_batch_size}, expected a multiple of the {processes} processes.",
            field="global_batch_size",
        )
    placement = Placement(default_sharding() if sharding is None else sharding, sample=data[0], uri=data.uri(0))
    rest = len(data) % global_batch_size
    if last is None:
        last = "drop" if drop_last else "pad" if processes > 1 or placement.misfit(rest) else "short"
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


class ShardedIterator:
    """Batches as field -> ``jax.Array`` (global batch, *field shape). Made by ``sharded_iterator``.

    Iterating it gives the batches of one epoch; iterating it again is the next epoch. One batch is placed
    ahead, so that its copies to devices run during the step before.

    64-bit types become 32-bit ones unless ``jax_enable_x64`` is set, as everywhere in JAX.

    Raises:
        OptionError: a whole or the final batch cannot be placed by the sharding.

    Threads: one consumer; ``close`` from anywhere.
    """

    def __init__(self, loader: s3dlio.DataLoader, placement: Placement) -> None:
        self.loader = loader
        self._placement = placement
        self._given = 0  # batches handed over in the running pass
        self._running: object = None  # tells the running pass from those it ended
        self._check()

    def _check(self) -> None:
        """Refuse a pass whose batches cannot be placed, before it begins."""
        plan = self.loader.plan
        sizes = [plan.global_batch]
        if plan.last == "short":
            sizes.append((plan.samples - plan.start) % plan.global_batch)
        for rows in sizes:
            if reason := self._placement.misfit(rows):
                raise OptionError(
                    f"sharding: {reason}, expected that it does. Choose another global_batch_size, or last='pad'.",
                    field="sharding",
                )

    def __len__(self) -> int:
        """Batches of the running pass; between passes, of the next one: what is left of its epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        """The batches of the next epoch, or of the rest of a loaded one. Ends a pass that still runs."""
        batches = iter(self.loader)
        self._running, self._given = batches, 0
        steps = len(self.loader)
        ahead = self._placement.arrays(next(batches)) if steps else None
        for step in range(1, steps + 1):
            now, ahead = ahead, self._placement.arrays(next(batches)) if step < steps else None
            self._given = step
            yield now
            if self._running is not batches:
                raise ClosedError("iterate ShardedIterator: another pass has begun, expected one at a time.")
        for _ in batches:  # there is none left: tells the loader that its epoch has ended
            raise AssertionError
        self._given = 0

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches handed over so far; see ``s3dlio.DataLoader.state_dict``."""
        return self.loader.state_dict(batches=self._given)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch that was handed over when ``state`` was taken, by any framework.

        Raises:
            StateError: as ``s3dlio.DataLoader.load_state_dict``.
            OptionError: the final batch from there on cannot be placed.
        """
        self.loader.load_state_dict(dict(state))
        self._running, self._given = None, 0
        self._check()

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch at the next iteration. Not needed in plain loops."""
        self.loader.set_epoch(epoch)
        self._running, self._given = None, 0

    def close(self) -> None:
        """End a running pass and its threads. Idempotent; the position can still be read."""
        self._running = None
        self.loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    get_state = state_dict
    set_state = load_state_dict
