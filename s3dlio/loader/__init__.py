"""Loading: batches in slots, epochs, the position that is saved."""

from s3dlio.loader.loader import DataLoader
from s3dlio.loader.options import LoaderOptions
from s3dlio.loader.slot import BatchSlot
from s3dlio.loader.state import LoaderState

__all__ = ["BatchSlot", "DataLoader", "LoaderOptions", "LoaderState"]
