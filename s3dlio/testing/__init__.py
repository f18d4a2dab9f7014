"""Conformance suites for stores that are written elsewhere. Needs pytest and hypothesis."""

from s3dlio.testing.store_machine import store_machine
from s3dlio.testing.stores import RawObjects, StoreSuite

__all__ = ["RawObjects", "StoreSuite", "store_machine"]
