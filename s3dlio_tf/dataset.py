"""A tf.data.Dataset over object storage: one batch an element, each pass the next epoch.

Translates what the core loader gives; order, sharding, resume and reading are the core's.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import tensorflow as tf

import s3dlio
from s3dlio.errors import ClosedError
from s3dlio_tf.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from s3dlio.storage import StorageOptions

__all__ = ["dataset"]


def dataset(
    uri: str,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    last: s3dlio.Last | None = None,
    rank: int = 0,
    world_size: int = 1,
    max_in_flight: int = 32,
    prefetch_bytes: int = 256 << 20,
    format: str | None = None,
    fields: Iterable[str] | None = None,
    pattern: str | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    state: Mapping[str, Any] | None = None,
) -> tf.data.Dataset:
    """Batches of the samples below a URI as a ``tf.data.Dataset``, for ``fit`` and for loops.

    An element is a dict: field -> tensor (batch, *field shape), in memory that is not copied. Each pass over
    the dataset is the next epoch, so ``fit(epochs=5)`` sees epochs 0 to 4; a pass that ends early counts.
    One pass runs at a time. The core reads ahead, so ``prefetch`` matters only behind a slow ``map``.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``. Listed here, and its first sample read.
        batch_size: samples that this rank takes in a step.
        shuffle: permute the samples, anew in every epoch.
        seed: of the permutation; the same on all ranks.
        drop_last: leave out an incomplete final batch; short for ``last="drop"``.
        last: "short", "pad" or "drop" the final step; by default "short", and "pad" with several ranks.
        rank: which slice of each step is this process's; with ``tf.distribute`` over several processes, the
            task's index. Nothing else shards the data (``AutoShardPolicy.OFF``).
        world_size: processes that share the epoch.
        max_in_flight: requests at the same time, a thread each.
        prefetch_bytes: bytes of objects read ahead.
        format: "npz", "npy" or "raw"; None decides by the keys' suffix.
        fields: names of the fields to deliver; None for all.
        pattern: regular expression that a key must contain below ``uri``.
        storage_options: endpoint, credentials, engine; see ``s3dlio.dataset``.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.
        state: a saved state to go on from, of any framework.

    Returns: a dataset with an exact ``element_spec``; its batch dimension is None unless all steps are equal,
        and raw objects of unequal sizes are a RaggedTensor. Its cardinality is the batches of an epoch, and
        unknown if ``state`` is from the middle of one. Its attribute ``loader`` is the core loader:
        ``loader.state_dict(batches=k)`` is the state after k batches of the running pass. Say k: tf.data
        takes batches ahead of the training step.

    Raises:
        NotFoundError, AccessError, OptionError, FormatError: as ``s3dlio.dataset`` and ``s3dlio.DataLoader``.
        StateError: the state does not fit.
        tf.errors.OpError: from the iteration; TensorFlow puts what was raised there into its message.
    """
    data = s3dlio.dataset(
        uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options, filesystem=filesystem
    )
    options = {
        "batch_size": batch_size,
        "shuffle": shuffle,
        "seed": seed,
        "drop_last": drop_last,
        "last": last,
        "rank": rank,
        "world_size": world_size,
        "max_in_flight": max_in_flight,
        "prefetch_bytes": prefetch_bytes,
    }
    return _tf_dataset(Feed(data, options, state))


def _tf_dataset(feed: Feed) -> tf.data.Dataset:
    outputs = [spec if isinstance(spec, tf.RaggedTensorSpec) else spec.dtype for spec in feed.spec.values()]
    names, specs = list(feed.spec), list(feed.spec.values())
    # TensorFlow keeps the graphs of these functions for good. The feed lives as long as the dataset, which whatever
    # is made of it refers to; then its threads end.
    begin, next_batch = _if_alive(feed.begin), _if_alive(feed.next)

    @tf.autograph.experimental.do_not_convert
    def one_pass(_: tf.Tensor) -> tf.data.Dataset:
        begun = tf.py_function(begin, [], tf.int64)
        begun.set_shape([2])
        return tf.data.Dataset.range(begun[1]).map(lambda step: one_batch(begun[0], step))

    @tf.autograph.experimental.do_not_convert
    def one_batch(number: tf.Tensor, step: tf.Tensor) -> dict[str, Any]:
        tensors = tf.py_function(next_batch, [number, step], outputs)
        for tensor, spec in zip(tensors, specs, strict=True):
            if isinstance(spec, tf.TensorSpec):
                tensor.set_shape(spec.shape)
        return dict(zip(names, tensors, strict=True))

    passes = tf.data.Dataset.from_tensors(0).flat_map(one_pass)
    if feed.whole:
        passes = passes.apply(tf.data.experimental.assert_cardinality(feed.full_steps))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    found = passes.with_options(options)
    found.loader, found.feed = feed.loader, feed
    return found


def _if_alive(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, without keeping its object alive."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: Any) -> Any:
        found = reference()
        if found is None:
            raise ClosedError("read: the dataset was deleted, expected it to live. Keep a reference to it.")
        return found(*arguments)

    return call
