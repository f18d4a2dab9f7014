"""s3dlio for PyTorch: datasets that stream from object storage, and resume; checkpoints in one commit."""

from s3dlio_torch.checkpoint import load_checkpoint, save_checkpoint
from s3dlio_torch.dataset import S3IterableDataset
from s3dlio_torch.loader import DataLoader
from s3dlio_torch.map_dataset import S3MapDataset
from s3dlio_torch.tensors import from_array, to_array, to_tensors

__all__ = [
    "DataLoader",
    "S3IterableDataset",
    "S3MapDataset",
    "from_array",
    "load_checkpoint",
    "save_checkpoint",
    "to_array",
    "to_tensors",
]
