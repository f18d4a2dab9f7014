"""Formats: bytes in, arrays out, without any I/O.

Owns: what the bytes of an object mean. Must not know: stores, keys, requests, threads, frameworks. Each
format is one class in one file; ``protocol`` says what all of them guarantee.
"""

from s3dlio.formats.detect import format_for
from s3dlio.formats.npy import NpyFormat
from s3dlio.formats.npz import NpzFormat
from s3dlio.formats.protocol import Format
from s3dlio.formats.raw import RawFormat

__all__ = [
    "Format",
    "NpyFormat",
    "NpzFormat",
    "RawFormat",
    "format_for",
]
