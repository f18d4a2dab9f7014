"""The map-style torch Dataset over object storage: samples by number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

import s3dlio
from s3dlio.datasets import list_for_workers
from s3dlio_torch.tensors import to_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3dlio.storage import StorageOptions

__all__ = ["S3MapDataset", "open_for_workers"]


class S3MapDataset(Dataset[dict[str, Any]]):
    """The samples below a URI by number, for a DataLoader that batches, with samplers of torch's own.

    A batch of indices is read concurrently. For training in order of its own, with resume,
    ``S3IterableDataset`` is faster.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``.
        format, fields, pattern, storage_options, filesystem: see ``s3dlio.dataset``.

    Raises:
        NotFoundError, AccessError, OptionError: as ``s3dlio.dataset``.
    """

    def __init__(
        self,
        uri: str,
        *,
        format: str | None = None,
        fields: Iterable[str] | None = None,
        pattern: str | None = None,
        storage_options: StorageOptions | Mapping[str, Any] | None = None,
        filesystem: object | None = None,
    ) -> None:
        self.data = open_for_workers(
            uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options, filesystem=filesystem
        )

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample ``index`` as field -> tensor. One request."""
        return to_tensors(self.data[index])

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of ``indices``, read concurrently; torch's DataLoader asks a batch at a time."""
        return [to_tensors(sample) for sample in self.data.read_many(indices)]


def open_for_workers(
    uri: str, *, pattern: str | None, storage_options: Any, filesystem: object | None, **rest: Any
) -> s3dlio.Dataset:
    """``s3dlio.dataset``, listed so that forked workers keep the fast engine; see ``list_for_workers``."""
    manifest = list_for_workers(uri, pattern=pattern, storage_options=storage_options, filesystem=filesystem)
    return s3dlio.dataset(uri, manifest=manifest, storage_options=storage_options, filesystem=filesystem, **rest)
