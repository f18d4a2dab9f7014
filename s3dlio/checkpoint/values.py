"""JSON values as users pass them: checked and copied.

Owns: what counts as JSON. A value is accepted only if reading gives it back equal and of the same types; so
tuples, integer keys and NaN are refused, not changed. (``tree`` keeps those.)
"""

from __future__ import annotations

import math
from typing import Any

from s3dlio.errors import CheckpointError

__all__ = ["MAX_INT_BITS", "json_value"]

MAX_INT_BITS = 8192
"""Python refuses to print or parse integers of more than 4300 digits (sys.set_int_max_str_digits)."""


def json_value(value: object, what: str) -> Any:
    """A deep copy of ``value``.

    Args:
        value: dict with string keys, list, str, int, finite float, bool or None, nested.
        what: the beginning of error messages.

    Raises:
        CheckpointError: another type, NaN or infinity, or a cycle; the message names the place.
    """
    return _copied(value, what, "", ())


def _copied(value: object, what: str, where: str, above: tuple[int, ...]) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int and int.bit_length(value) <= MAX_INT_BITS:  # type: ignore[arg-type] # its type is int
        return value
    if kind is float and math.isfinite(value):  # type: ignore[arg-type] # its type is float
        return value
    if isinstance(value, (dict, list)) and kind in {dict, list}:
        if id(value) in above:
            raise CheckpointError(f"{what}{_at(where)}: the value contains itself, expected a tree.")
        inside = (*above, id(value))
        if isinstance(value, list):
            return [_copied(item, what, f"{where}[{index}]", inside) for index, item in enumerate(value)]
        for key in value:
            if type(key) is not str:
                raise CheckpointError(
                    f"{what}{_at(where)}: got the key {key!r}, expected a string, as JSON has no other. "
                    "Use save_tree, which keeps integer keys."
                )
        return {key: _copied(item, what, f"{where}[{key!r}]", inside) for key, item in value.items()}
    found = repr(value) if isinstance(value, (int, float)) and kind is float else kind.__name__
    raise CheckpointError(
        f"{what}{_at(where)}: got {found}, expected a JSON value: dict with string keys, list, str, int, "
        "finite float, bool or None. Use save_tree for tuples, NaN and arrays."
    )


def _at(where: str) -> str:
    return f" at {where}" if where else ""
