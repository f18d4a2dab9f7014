"""s3dlio for JAX: sharded batches that stream from object storage, and resume; checkpoints in one commit."""

from s3dlio_jax.checkpoint import load_checkpoint, save_checkpoint
from s3dlio_jax.dataset import sharded_iterator
from s3dlio_jax.iterator import ShardedIterator
from s3dlio_jax.tensors import default_sharding

__all__ = ["ShardedIterator", "default_sharding", "load_checkpoint", "save_checkpoint", "sharded_iterator"]
