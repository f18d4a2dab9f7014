"""Conformance suites and a faulty store, for stores, formats and loaders that are written elsewhere.

Needs pytest and hypothesis.
"""

from s3dlio.testing.faults import FaultyStore, ReadCall, fail_at
from s3dlio.testing.formats import FormatSuite
from s3dlio.testing.loaders import Resumable, check_resumption
from s3dlio.testing.store_machine import store_machine
from s3dlio.testing.stores import RawObjects, StoreSuite

__all__ = [
    "FaultyStore",
    "FormatSuite",
    "RawObjects",
    "ReadCall",
    "Resumable",
    "StoreSuite",
    "check_resumption",
    "fail_at",
    "store_machine",
]
