"""Many objects, whole trees and file objects: what people do with stores from a program or a shell."""

from s3dlio.transfer.aio import (
    exists_async,
    get_async,
    get_many_async,
    put_bytes_async,
    put_many_async,
    stat_async,
)
from s3dlio.transfer.copy import copy
from s3dlio.transfer.download import download
from s3dlio.transfer.files import ObjectOutput, open  # noqa: A004  # the name is a contract
from s3dlio.transfer.fill import put
from s3dlio.transfer.many import get_many, put_many, stat_many
from s3dlio.transfer.result import TransferProgress, TransferResult
from s3dlio.transfer.upload import upload

__all__ = [
    "ObjectOutput",
    "TransferProgress",
    "TransferResult",
    "copy",
    "download",
    "exists_async",
    "get_async",
    "get_many",
    "get_many_async",
    "open",
    "put",
    "put_bytes_async",
    "put_many",
    "put_many_async",
    "stat_async",
    "stat_many",
    "upload",
]
