"""Nested containers of arrays: taken apart into named arrays and a JSON skeleton, and put together again.

Owns: the skeleton's form and the names of arrays. Must not know: files, stores.

A skeleton node is null, a boolean, a number, a string, or an object with one member that says what it is:
    {"array": name}   {"float": 16 hex digits of a NaN or infinity}
    {"list": [node...]}   {"tuple": [node...]}
    {"dict": [[key, node]...]}   {"ordered": [[key, node]...]}     keys: strings and integers, in their order

An array's name is its path: ``model/layer1.weight``, ``optimizer/state/0/exp_avg``. In string keys "%" is
written %25 and "/" %2F; a string key that looks like an integer key beside it has its first character escaped.
So two paths never share a name.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.checkpoint.values import MAX_INT_BITS
from s3dlio.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["join_tree", "split_tree", "tree_arrays"]


def split_tree(name: str, tree: object) -> tuple[Any, dict[str, object]]:
    """The skeleton of ``tree`` and its array leaves by name.

    Args:
        name: of the tree; every array's name begins with it.
        tree: dict, OrderedDict, list and tuple, nested; keys str or int; leaves are arrays (anything with
            ``__array__`` or DLPack; NumPy scalars become 0-d arrays) and None, bool, int, float, str.

    Raises:
        CheckpointError: another type of leaf, container or key, or a container inside itself; it names the path.
    """
    arrays: dict[str, object] = {}
    return _split(tree, name, arrays, ()), arrays


def join_tree(skeleton: Any, arrays: Mapping[str, Any]) -> Any:
    """The tree that ``split_tree`` took apart, with its leaves from ``arrays``.

    Raises:
        CheckpointError: the skeleton has a node of an unknown kind.
    """
    if not isinstance(skeleton, dict):
        return skeleton
    kind, value = next(iter(skeleton.items()))
    if kind == "array":
        return arrays[value]
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(value))[0]
    if kind == "list":
        return [join_tree(node, arrays) for node in value]
    if kind == "tuple":
        return tuple(join_tree(node, arrays) for node in value)
    if kind == "dict":
        return {key: join_tree(node, arrays) for key, node in value}
    if kind == "ordered":
        return OrderedDict((key, join_tree(node, arrays)) for key, node in value)
    raise CheckpointError(f"load_tree: a node of the kind {kind!r}, expected a known one. Update s3dlio.")


def tree_arrays(skeleton: Any) -> Iterator[str]:
    """The names of the arrays in a skeleton, in the tree's order."""
    if not isinstance(skeleton, dict):
        return
    for kind, value in skeleton.items():
        if kind == "array":
            yield value
        elif kind in {"list", "tuple"}:
            for node in value:
                yield from tree_arrays(node)
        elif kind in {"dict", "ordered"}:
            for _, node in value:
                yield from tree_arrays(node)


def _split(node: object, path: str, arrays: dict[str, object], above: tuple[int, ...]) -> Any:
    kind = type(node)
    if node is None or kind is bool or kind is str:
        return node
    if type(node) is int and node.bit_length() <= MAX_INT_BITS:
        return node
    if type(node) is float:
        return node if math.isfinite(node) else {"float": struct.pack(">d", node).hex()}
    if kind in {dict, OrderedDict, list, tuple}:
        if id(node) in above:
            raise CheckpointError(f"save_tree at {path!r}: the {kind.__name__} contains itself, expected a tree.")
        inside = (*above, id(node))
        if isinstance(node, dict):
            items = [
                [key, _split(child, f"{path}/{part}", arrays, inside)]
                for (key, child), part in zip(node.items(), _parts(node, path), strict=True)
            ]
            return {"dict" if kind is dict else "ordered": items}
        assert isinstance(node, (list, tuple))
        children = [_split(child, f"{path}/{index}", arrays, inside) for index, child in enumerate(node)]
        return {kind.__name__: children}
    if isinstance(node, (np.ndarray, np.generic)) or hasattr(node, "__array__") or hasattr(node, "__dlpack__"):
        arrays[path] = node
        return {"array": path}
    raise CheckpointError(
        f"save_tree at {path!r}: got {kind.__module__}.{kind.__qualname__}, expected dict, list, tuple, an array "
        "or a JSON scalar. Convert it to one of these first."
    )


def _parts(node: dict[Any, Any], path: str) -> list[str]:
    """What each key of ``node`` adds to the path of its child."""
    numbers = {str(key) for key in node if type(key) is int and key.bit_length() <= MAX_INT_BITS}
    parts = []
    for key in node:
        if type(key) is int and key.bit_length() <= MAX_INT_BITS:
            parts.append(str(key))
        elif type(key) is str:
            part = key.replace("%", "%25").replace("/", "%2F")
            parts.append(f"%{ord(part[0]):02X}{part[1:]}" if part in numbers else part)
        else:
            raise CheckpointError(
                f"save_tree at {path!r}: got the key {key!r} ({type(key).__name__}), expected a string or an integer."
            )
    return parts
