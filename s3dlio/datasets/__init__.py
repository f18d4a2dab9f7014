"""Datasets: what to read (manifest), in which order (order), and who reads it (shard)."""

from s3dlio.datasets.dataset import Dataset, dataset, list_for_workers
from s3dlio.datasets.manifest import Manifest
from s3dlio.datasets.order import ORDER, Permutation, epoch_order
from s3dlio.datasets.shard import Last, StepPlan, StepRows

__all__ = [
    "ORDER",
    "Dataset",
    "Last",
    "Manifest",
    "Permutation",
    "StepPlan",
    "StepRows",
    "dataset",
    "epoch_order",
    "list_for_workers",
]
