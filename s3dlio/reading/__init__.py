"""Reading: plan ranges (pure), fetch them in order under a byte budget."""

from s3dlio.reading.fetch import Fetch, FetchOptions, Request, fetch
from s3dlio.reading.plan import part_ranges

__all__ = ["Fetch", "FetchOptions", "Request", "fetch", "part_ranges"]
