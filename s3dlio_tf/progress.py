"""Where a Keras run is: batches trained, in Keras's epochs and in the data's.

Owns: the counting. Must not know: Keras objects, stores. The two kinds of epoch are the same thing in a plain
``fit``; with ``repeat`` and ``steps_per_epoch``, or with ``take``, they are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3dlio_tf.feed import Feed

__all__ = ["Progress"]


class Progress:
    """Counts the batches of one ``fit``.

    Args:
        feed: what stands behind the dataset; it goes on from ``loader``.
        loader: the data's position when a checkpoint was saved; None begins with the next epoch.
        step: batches that were trained until then.
        batch: of them, those of the Keras epoch that was running.
    """

    def __init__(self, feed: Feed, *, loader: Mapping[str, Any] | None = None, step: int = 0, batch: int = 0) -> None:
        if loader is not None:
            feed.load(loader)
        self._feed = feed
        self._start = feed.upcoming() if loader is None else loader
        self._since_start = -batch  # batches since _start, before the Keras epoch began
        self._before = step - batch  # batches of the run, before the Keras epoch began
        self._left_early = feed.left_early
        self.in_epoch = 0
        """Batches of the running Keras epoch so far, with those that an earlier run trained."""

    @property
    def step(self) -> int:
        """Batches trained in this run and those before it."""
        return self._before + self.in_epoch

    def end_epoch(self) -> None:
        """Begin the next Keras epoch."""
        self._follow()
        self._before += self.in_epoch
        self._since_start += self.in_epoch
        self.in_epoch = 0

    def position(self) -> dict[str, Any]:
        """The data's position after ``step`` batches, as a loader's state."""
        self._follow()
        return self._feed.position(self._start, self._since_start + self.in_epoch)

    def _follow(self) -> None:
        if self._feed.left_early > self._left_early:  # take(): the running pass began with this Keras epoch
            self._left_early = self._feed.left_early
            self._start, self._since_start = self._feed.running(), 0
