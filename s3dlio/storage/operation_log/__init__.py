"""The operation log, in the format that MinIO's warp replays."""

from s3dlio.storage.operation_log.format import read_op_log
from s3dlio.storage.operation_log.log import op_log

__all__ = ["op_log", "read_op_log"]
