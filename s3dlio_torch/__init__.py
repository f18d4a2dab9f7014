"""s3dlio for PyTorch: datasets that stream from object storage, and resume."""

from s3dlio_torch.dataset import S3IterableDataset, S3MapDataset
from s3dlio_torch.loader import DataLoader
from s3dlio_torch.tensors import to_tensors

__all__ = ["DataLoader", "S3IterableDataset", "S3MapDataset", "to_tensors"]
