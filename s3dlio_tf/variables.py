"""The variables of a Keras model as a tree of a checkpoint, and back.

Owns: which saved array belongs to which variable. Must not know: stores, training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.errors import CheckpointError
from s3dlio_tf.tensors import to_array

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3dlio.arrays import Array

__all__ = ["assign_variables", "variable_arrays"]


def variable_arrays(variables: Iterable[Any]) -> dict[str, Array]:
    """Path -> values of each variable, in their order."""
    return {path: to_array(variable) for path, variable in _by_path(variables).items()}


def assign_variables(variables: Iterable[Any], saved: Mapping[str, Array], *, tree: str) -> None:
    """Give the variables the saved values: by path, or in their order where only the names differ.

    Keras numbers the names it makes up, so a model built a second time in a process has other paths.

    Raises:
        CheckpointError: another number of variables, or another shape or dtype; nothing is changed then.
    """
    targets = _by_path(variables)
    by_path = targets.keys() == saved.keys()
    if len(targets) != len(saved):
        unlike = sorted(targets.keys() ^ saved.keys())
        raise CheckpointError(
            f"restore {tree}: found {len(saved)} variables, expected {len(targets)}; only in one of them: "
            f"{', '.join(unlike[:3])}. Build and compile the model as in the run that saved it."
        )
    pairs = [
        (path, target, saved_path, saved[path] if by_path else value)
        for (path, target), (saved_path, value) in zip(targets.items(), saved.items(), strict=True)
    ]
    for path, target, saved_path, value in pairs:
        expected = to_array(target)
        if (expected.shape, expected.dtype) != (np.shape(value), np.asarray(value).dtype):
            raise CheckpointError(
                f"restore {tree} at {path!r}: found {np.asarray(value).dtype} {np.shape(value)} "
                f"({path if by_path else saved_path}), expected {expected.dtype} {expected.shape}. "
                "Build and compile the model as in the run that saved it."
            )
    for _, target, _, value in pairs:
        target.assign(value)


def _by_path(variables: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable in variables:
        path, number = variable.path, 2
        while path in found:
            path, number = f"{variable.path}#{number}", number + 1
        found[path] = variable
    return found
