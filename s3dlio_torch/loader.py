"""torch's DataLoader with a position: it counts the batches that the training loop has taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.utils.data

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3dlio_torch.dataset import S3IterableDataset

__all__ = ["DataLoader"]


class DataLoader(torch.utils.data.DataLoader[dict[str, Any]]):
    """``torch.utils.data.DataLoader`` over an ``S3IterableDataset``, with ``state_dict`` and ``load_state_dict``.

    With torch's own DataLoader only the worker processes know how far they are, and they run ahead.

    Args:
        dataset: its batches are passed through as they are.
        num_workers, pin_memory, persistent_workers, multiprocessing_context, ...: as torch's.

    Raises:
        OptionError: ``batch_size`` is given, but the dataset makes the batches; or ``in_order=False``, with which
            a number of batches does not say which ones.
    """

    dataset: S3IterableDataset

    def __init__(self, dataset: S3IterableDataset, **options: Any) -> None:
        if options.setdefault("batch_size", None) is not None:
            raise OptionError(
                f"batch_size: got {options['batch_size']!r}, expected none here. Give it to S3IterableDataset.",
                field="batch_size",
            )
        if not options.get("in_order", True):
            raise OptionError("in_order: got False, expected True. The position counts batches.", field="in_order")
        super().__init__(dataset, **options)
        self._taken = 0  # batches of the newest iteration
        self._begin: dict[str, Any] | None = None  # where the newest iteration of workers began

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]  # torch names its private class
        """The batches of the next epoch, or of the rest of a loaded one."""
        if self.num_workers:
            self._taken, self._begin = 0, self.dataset.next_state_dict()
        for number, batch in enumerate(super().__iter__(), 1):
            self._taken = number
            yield batch

    def __len__(self) -> int:
        """Batches of the next iteration: what is left of its epoch."""
        return self.dataset.batches_left

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches taken so far; see ``s3dlio.DataLoader.state_dict``."""
        if self.num_workers == 0 or self._begin is None:
            return self.dataset.state_dict()
        # before the first batch its workers may not have said yet which epoch it is
        return self.dataset.state_dict(batches=self._taken) if self._taken else dict(self._begin)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch taken when ``state`` was saved, with any number of workers.

        Raises:
            StateError: the state does not fit.
        """
        self.dataset.load_state_dict(state)
        self._taken, self._begin = 0, None
