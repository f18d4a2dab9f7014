from s3dlio.checkpoint import (
    CheckpointInfo as CheckpointInfo,
)
from s3dlio.checkpoint import (
    CheckpointReader as CheckpointReader,
)
from s3dlio.checkpoint import (
    CheckpointWriter as CheckpointWriter,
)
from s3dlio.checkpoint import (
    create_checkpoint_reader as create_checkpoint_reader,
)
from s3dlio.checkpoint import (
    create_checkpoint_writer as create_checkpoint_writer,
)
from s3dlio.compat import (
    create_async_loader as create_async_loader,
)
from s3dlio.compat import (
    create_async_loader_from_dataset as create_async_loader_from_dataset,
)
from s3dlio.compat import (
    create_dataset as create_dataset,
)
from s3dlio.compat import (
    read_npz as read_npz,
)
from s3dlio.datasets import Dataset as Dataset
from s3dlio.datasets import Last as Last
from s3dlio.datasets import Manifest as Manifest
from s3dlio.datasets import dataset as dataset
from s3dlio.loader import DataLoader as DataLoader
from s3dlio.storage import (
    Credentials as Credentials,
)
from s3dlio.storage import (
    ForkWarning as ForkWarning,
)
from s3dlio.storage import (
    ObjectBytes as ObjectBytes,
)
from s3dlio.storage import (
    ObjectEntry as ObjectEntry,
)
from s3dlio.storage import (
    RequestStatistics as RequestStatistics,
)
from s3dlio.storage import (
    StorageOptions as StorageOptions,
)
from s3dlio.storage import (
    Store as Store,
)
from s3dlio.storage import (
    WriteResult as WriteResult,
)
from s3dlio.storage import (
    create_bucket as create_bucket,
)
from s3dlio.storage import (
    delete as delete,
)
from s3dlio.storage import (
    delete_bucket as delete_bucket,
)
from s3dlio.storage import (
    exists as exists,
)
from s3dlio.storage import (
    get as get,
)
from s3dlio.storage import (
    get_buffer as get_buffer,
)
from s3dlio.storage import (
    get_into as get_into,
)
from s3dlio.storage import (
    get_range as get_range,
)
from s3dlio.storage import (
    list as list,  # noqa: A004  # the names are a contract
)
from s3dlio.storage import (
    list_buckets as list_buckets,
)
from s3dlio.storage import (
    list_keys as list_keys,
)
from s3dlio.storage import (
    mkdir as mkdir,
)
from s3dlio.storage import (
    op_log as op_log,
)
from s3dlio.storage import (
    open_store as open_store,
)
from s3dlio.storage import (
    open_writer as open_writer,
)
from s3dlio.storage import (
    put_bytes as put_bytes,
)
from s3dlio.storage import (
    read_op_log as read_op_log,
)
from s3dlio.storage import (
    stat as stat,
)
from s3dlio.transfer import (
    TransferProgress as TransferProgress,
)
from s3dlio.transfer import (
    TransferResult as TransferResult,
)
from s3dlio.transfer import (
    copy as copy,
)
from s3dlio.transfer import (
    download as download,
)
from s3dlio.transfer import (
    exists_async as exists_async,
)
from s3dlio.transfer import (
    get_async as get_async,
)
from s3dlio.transfer import (
    get_many as get_many,
)
from s3dlio.transfer import (
    get_many_async as get_many_async,
)
from s3dlio.transfer import (
    open as open,  # noqa: A004  # as above
)
from s3dlio.transfer import (
    put as put,
)
from s3dlio.transfer import (
    put_bytes_async as put_bytes_async,
)
from s3dlio.transfer import (
    put_many as put_many,
)
from s3dlio.transfer import (
    put_many_async as put_many_async,
)
from s3dlio.transfer import (
    stat_async as stat_async,
)
from s3dlio.transfer import (
    stat_many as stat_many,
)
from s3dlio.transfer import (
    upload as upload,
)
