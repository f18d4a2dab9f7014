"""Sharded batches, one placed ahead: each pass the next epoch.

Owns: which batches were handed over, and so the position that is saved. Must not know: how data is ordered.

Guarantees: the state advances when a batch is handed over, not when it is placed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3dlio.errors import ClosedError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

    import jax

    import s3dlio
    from s3dlio.arrays import Batch
    from s3dlio_jax.tensors import Placement

__all__ = ["ShardedIterator"]


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
            if reason := self._placement.obstacle(rows):
                raise OptionError(
                    f"sharding: {reason}, expected that it does. Choose another global_batch_size, or last='pad'.",
                    field="sharding",
                )

    def __len__(self) -> int:
        """Batches of the running pass; between passes, of the next one: what is left of its epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, jax.Array]]:
        """The batches of the next epoch, or of the rest of a loaded one. Ends a pass that still runs."""
        batches = iter(self.loader)  # nothing else may hold it: leaving the loop ends its threads
        running = self._running = object()
        self._given = 0
        steps = len(self.loader)
        ahead = self._place(batches, 0) if steps else {}
        for step in range(1, steps + 1):
            now, ahead = ahead, self._place(batches, step) if step < steps else {}
            self._given = step
            yield now
            if self._running is not running:
                raise ClosedError("iterate ShardedIterator: another pass has begun, expected one at a time.")
        for _ in batches:  # there is none left: tells the loader that its epoch has ended
            raise AssertionError
        self._given = 0

    def _place(self, batches: Iterator[Batch], step: int) -> dict[str, jax.Array]:
        loader = self.loader
        return self._placement.arrays(
            next(batches), name=lambda row: loader.dataset.uri(loader.step_samples(step)[row])
        )

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
