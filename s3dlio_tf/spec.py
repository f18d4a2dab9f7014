"""What every element of a dataset looks like, from its first sample.

Owns: which fields are ragged, and when the batch dimension is known. Must not know: tf.data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc
import tensorflow as tf

from s3dlio.errors import FormatError
from s3dlio_tf.tensors import tensor_dtype

if TYPE_CHECKING:
    import s3dlio
    from s3dlio.datasets import StepPlan

__all__ = ["element_spec"]


def element_spec(data: s3dlio.Dataset, plan: StepPlan) -> dict[str, tf.TypeSpec]:
    """Field -> specification of its batches, sorted by field. Reads the first sample.

    Args:
        data: the samples.
        plan: of the first pass; later ones begin at position 0.

    Raises:
        FormatError: a dtype that TensorFlow does not have.
    """
    equal = plan.last != "short" or not (plan.samples % plan.global_batch or plan.start % plan.global_batch)
    rows = plan.batch_size if equal else None
    sizes = pc.min_max(data.manifest.table["size"]).as_py()
    ragged = data.format.name == "raw" and sizes["min"] != sizes["max"]
    spec = {}
    for field, value in sorted(data[0].items()):
        dtype = tensor_dtype(value.dtype)
        if dtype is None:
            raise FormatError(
                f"read {data.uri(0)}: field {field!r} is {value.dtype}, expected a dtype that TensorFlow has. "
                "Leave it out with fields=, or rewrite it as numbers.",
                uri=data.uri(0),
            )
        spec[field] = (
            tf.RaggedTensorSpec((rows, None), dtype, ragged_rank=1, row_splits_dtype=tf.int64)
            if ragged
            else tf.TensorSpec((rows, *value.shape), dtype)
        )
    return spec
