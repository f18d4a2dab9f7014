"""Where a Keras run is: batches trained, in Keras's epochs and in the data's.

Owns: the counting. Must not know: Keras, stores. The two kinds of epoch are the same in a plain ``fit``; with
``repeat`` and ``steps_per_epoch`` they are not. tf.data takes batches long before they are trained, so only what
was trained is counted, and how far the dataset has been read says nothing.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from s3dlio.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3dlio_tf.feed import Feed

__all__ = ["Progress"]


class Progress:
    """Counts the batches of one ``fit``, which takes whole passes over the data, one after the other.

    Args:
        feed: what stands behind the dataset; it goes on from ``loader``.
        loader: the data's position when a checkpoint was saved; None begins with the next epoch.
        step: batches that were trained until then.
        batch: of them, those of the Keras epoch that was running.

    Raises:
        StateError: the data's epochs are not Keras's, so that the dataset must be made with ``state=``.
    """

    def __init__(self, feed: Feed, *, loader: Mapping[str, Any] | None = None, step: int = 0, batch: int = 0) -> None:
        self._rest = False  # the first pass is the rest of an epoch, shorter than the dataset's cardinality says
        if loader is not None:
            feed.load(loader)
            self._rest = feed.whole and loader["position"] > 0
        if self._rest and feed.position({**feed.upcoming(), "position": 0}, batch) != feed.upcoming():
            raise self._shorter()
        self._feed = feed
        self._start = feed.upcoming() if loader is None else loader
        self._since_start = -batch  # batches since _start, before the Keras epoch began
        self._before = step - batch  # batches of the run, before the Keras epoch began
        self._iterator: weakref.ref[Any] | None = None
        self.in_epoch = 0
        """Batches of the running Keras epoch so far, with those that an earlier run trained."""

    @property
    def step(self) -> int:
        """Batches trained in this run and those before it."""
        return self._before + self.in_epoch

    def end_epoch(self) -> None:
        """Begin the next Keras epoch."""
        self._before += self.in_epoch
        self._since_start += self.in_epoch
        self.in_epoch = 0

    def position(self) -> dict[str, Any]:
        """The data's position after ``step`` batches, as a loader's state."""
        return self._feed.position(self._start, self._since_start + self.in_epoch)

    def watch(self, iterator: Any) -> None:
        """Check that a new iterator begins where the one before it ended.

        Raises:
            StateError: it begins a new pass although the one before was left in its middle, as ``take`` does.
        """
        before, self._iterator = self._iterator, weakref.ref(iterator)
        if before is None or self.in_epoch:
            return
        where = self.position()
        if before() is iterator:
            if self._rest:
                raise self._shorter()
        elif where["position"]:
            raise StateError(
                f"train: a new pass over the data began after {where['position']} of {where['samples']} samples, "
                "expected all of them. Use repeat() with steps_per_epoch= instead of take()."
            )

    @staticmethod
    def _shorter() -> StateError:
        return StateError(
            "restore: the data goes on in the middle of an epoch that is not Keras's (repeat() or steps_per_epoch=), "
            "expected a dataset that knows. Make it with state=load_checkpoint(...).loader, and repeat() it."
        )
