"""pytrees as the containers that a checkpoint holds, and back onto a target.

Owns: what becomes of JAX's own leaves and of registered nodes (NamedTuple, dataclasses, flax, optax). Must not
know: stores, layouts.

dict, OrderedDict, list and tuple stay; every other node becomes a dict of its children by the names that JAX has
for them. A key of ``jax.random.key`` becomes ``{"prng_impl": name, "key_data": uint32}``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from s3dlio.errors import CheckpointError

__all__ = ["to_arrays", "to_target"]

_PLAIN = (dict, OrderedDict, list, tuple)
_KEY = {"prng_impl", "key_data"}


def to_arrays(node: Any, path: str) -> Any:
    """The pytree with arrays in host memory for its leaves.

    Args:
        node: a pytree.
        path: of the node, for errors.

    Raises:
        CheckpointError: an array whose parts are in other processes.
    """
    if node is None or _is_leaf(node):
        return _host(node, path)
    if type(node) not in _PLAIN:
        return {name: to_arrays(child, f"{path}/{name}") for name, child in _children(node)[0]}
    if isinstance(node, dict):
        return type(node)((key, to_arrays(child, f"{path}/{key}")) for key, child in node.items())
    return type(node)(to_arrays(child, f"{path}/{number}") for number, child in enumerate(node))


def to_target(saved: Any, target: Any, path: str) -> Any:
    """``saved`` in the structure of ``target``, its arrays with the target's dtypes and where the target has them.

    Raises:
        CheckpointError: another structure, shape or dtype; it names the path.
    """
    if target is None or _is_leaf(target):
        return _placed(saved, target, path)
    children, treedef = _children(target)
    names = [name for name, _ in children]
    by_name = dict(enumerate(saved)) if isinstance(saved, (list, tuple)) else saved
    if not isinstance(by_name, dict) or set(by_name) != set(names):
        found = ", ".join(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__
        expected = ", ".join(map(str, names))
        raise CheckpointError(
            f"load_checkpoint at {path!r}: found {found or 'nothing'}, expected {expected or 'nothing'} as in the "
            f"target's {type(target).__name__}. Pass the target that was saved."
        )
    return jax.tree_util.tree_unflatten(
        treedef, [to_target(by_name[name], child, f"{path}/{name}") for name, child in children]
    )


def _is_leaf(node: Any) -> bool:
    return jax.tree_util.all_leaves([node])


def _children(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """The children of one node, each with the name that JAX has for it, and how to put them together."""
    found, treedef = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda below: below is not node)
    return [(_name(path[0]), child) for path, child in found], treedef


def _name(entry: Any) -> Any:
    for attribute in ("name", "key", "idx"):
        if hasattr(entry, attribute):
            return getattr(entry, attribute)
    return str(entry)


def _host(leaf: Any, path: str) -> Any:
    if not isinstance(leaf, jax.Array):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return {"prng_impl": str(jax.random.key_impl(leaf)), "key_data": _host(jax.random.key_data(leaf), path)}
    if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        raise CheckpointError(
            f"save_checkpoint at {path!r}: the array's parts are in several processes, expected all in this one. "
            "Gather it first: jax.experimental.multihost_utils.process_allgather(tree, tiled=True)."
        )
    return np.asarray(leaf)


def _placed(saved: Any, target: Any, path: str) -> Any:
    sharding = getattr(target, "sharding", None)
    if isinstance(saved, dict) and set(saved) == _KEY:
        saved = jax.random.wrap_key_data(saved["key_data"], impl=saved["prng_impl"])
    elif isinstance(saved, np.ndarray) and isinstance(target, (jax.Array, jax.ShapeDtypeStruct)):
        saved = jax.device_put(saved, sharding)
    found, expected = _facts(saved), _facts(target)
    if found != expected:
        raise CheckpointError(
            f"load_checkpoint at {path!r}: found {found}, expected {expected} as in the target. "
            "Pass the target that was saved, or load without one."
        )
    return saved


def _facts(leaf: Any) -> str:
    if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
        return f"{leaf.dtype} {tuple(leaf.shape)}"
    return type(leaf).__name__
