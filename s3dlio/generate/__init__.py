"""Generate: synthetic objects of a given size, compressibility and duplication.

Owns: what such objects contain. Must not know: stores, keys, how many there are. Pure: object number ``index``
of a ``seed`` is the same bytes wherever and whenever it is made.
"""

from s3dlio.generate.content import Kind, payload
from s3dlio.generate.hdf5 import hdf5
from s3dlio.generate.numpy_files import npy, npz
from s3dlio.generate.tfrecord import tfrecord

__all__ = ["Kind", "hdf5", "npy", "npz", "payload", "tfrecord"]
