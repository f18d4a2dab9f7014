"""s3dlio for TensorFlow: datasets that stream from object storage, and resume; checkpoints in one commit."""

from s3dlio_tf.checkpoint import load_checkpoint, save_checkpoint
from s3dlio_tf.dataset import dataset
from s3dlio_tf.hooks import CheckpointCallback

__all__ = ["CheckpointCallback", "dataset", "load_checkpoint", "save_checkpoint"]
