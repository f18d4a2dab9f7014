"""Feed training jobs from object storage on Arrow buffers, and save their state back to it."""

from s3dlio.dataset import Dataset, Last, Manifest, dataset
from s3dlio.loader import DataLoader
from s3dlio.storage import StorageOptions, open_store

__all__ = ["DataLoader", "Dataset", "Last", "Manifest", "StorageOptions", "dataset", "open_store"]
