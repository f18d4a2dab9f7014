"""Conformance suites for formats and stores that are written elsewhere. Needs pytest and hypothesis."""

from s3dlio.testing.formats import FormatSuite
from s3dlio.testing.store_machine import store_machine
from s3dlio.testing.stores import RawObjects, StoreSuite

__all__ = ["FormatSuite", "RawObjects", "StoreSuite", "store_machine"]
