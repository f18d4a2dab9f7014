"""``put``: generated objects below a prefix, to fill a store for a test, a benchmark or a first try.

Owns: their names, their number, and what is in flight. Must not know: what is in them (``generate``), engines.

Guarantees: nothing is stored before the names are known to differ and the options to be legal; each object appears
whole or not at all.
"""

from __future__ import annotations

import functools
import hashlib
import math
import operator
import time
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypeAlias, get_args

from s3dlio import generate
from s3dlio.errors import OptionError
from s3dlio.storage.arguments import check_mode
from s3dlio.transfer.conveyor import Conveyor, Piece, check_in_flight
from s3dlio.transfer.result import TransferResult
from s3dlio.transfer.side import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3dlio.storage.protocol import BufferLike, PutMode
    from s3dlio.transfer.result import TransferProgress
    from s3dlio.transfer.side import StorageOptionsLike, UriLike

__all__ = ["ObjectType", "put"]

ObjectType: TypeAlias = Literal["random", "zeros", "npy", "npz", "hdf5", "tfrecord"]

_HELD = 2
"""Memory of an object in bytes of the object: its parts, and then the whole."""


def put(
    prefix: UriLike,
    num: int = 1,
    template: str = "object_{}",
    *,
    size: int = 1 << 20,
    object_type: ObjectType = "random",
    max_in_flight: int = 64,
    compress_factor: float = 1.0,
    dedup_factor: float = 1.0,
    seed: int | None = None,
    mode: PutMode = "overwrite",
    progress: Callable[[TransferProgress], object] | None = None,
    storage_options: StorageOptionsLike = None,
    filesystem: object | None = None,
) -> TransferResult:
    """Generate ``num`` objects of ``size`` bytes each, and store them. ``put_bytes`` stores data of your own.

    The objects differ from each other and from those of other prefixes and templates; the same call makes the same
    bytes again.

    Args:
        prefix: URI of a directory of any scheme that can be written, or a path.
        num: how many, >= 0.
        template: name of an object below ``prefix``, for ``str.format``: ``{}`` or ``{0}`` is its number, counted from
            0, a second ``{}`` or ``{1}`` is ``num``; ``"train_{:06d}.npz"``. One object needs no number.
        size: bytes of each object, all of it: headers included.
        object_type: "random" or "zeros" for plain bytes; "npy" or "npz" for a vector of uint8, in NPZ called "data";
            "hdf5" for such a dataset (needs the extra ``hdf5``); "tfrecord" for ``tf.train.Example`` records of
            128 KiB with a feature "data".
        max_in_flight: objects at the same time, >= 1; a thread each.
        compress_factor: size of the content divided by its compressed size, >= 1.
        dedup_factor: blocks of 4 KiB of the content divided by distinct ones, >= 1.
        seed: of the content, 0 to 2**64 - 1. None: one of the prefix and the template.
        mode: "overwrite", or "create" to fail where an object exists.
        progress: as ``copy``.
        storage_options: as ``open_store``.
        filesystem: a filesystem of the caller's own, in which ``prefix`` is a path.

    Returns: the number of objects and of bytes that were stored.

    Raises:
        OptionError: an illegal value; a template that gives two objects the same name.
        MissingExtraError: "hdf5" without h5py.
        StorageError: the first request that failed. What was stored before stays.
    """
    began = time.perf_counter()
    num, size = _count("num", num), _count("size", size)
    check_in_flight("put", max_in_flight)
    make = functools.partial(
        _maker(object_type),
        size,
        compress=_ratio("compress", compress_factor, object_type),
        dedup=_ratio("dedup", dedup_factor, object_type),
    )
    if seed is not None:
        _check_seed(seed)
    names = _names(template, num)
    with Side.of(prefix, storage_options=storage_options, filesystem=filesystem) as target:
        check_mode(mode, target.uri(target.key))
        if seed is None:
            digest = hashlib.blake2b(target.uri(target.below(template)).encode(), digest_size=8).digest()
            seed = int.from_bytes(digest, "little")
        conveyor = Conveyor(progress, objects=num, size=num * size)

        def store(index: int, key: str) -> None:
            conveyor.check()
            started = time.perf_counter()
            data = make(seed=seed, index=index)
            conveyor.check()
            target.store.put(key, data, mode=mode)
            conveyor.moved(target.uri(key), size, whole=True, began=started)

        def pieces() -> Iterator[Piece]:
            for index, name in enumerate(names):
                yield Piece(_HELD * size, functools.partial(store, index, target.below(name)))

        conveyor.run(pieces(), max_in_flight=max_in_flight, tasks=num)
        objects, stored = conveyor.done
    return TransferResult(objects=objects, bytes=stored, skipped=0, seconds=time.perf_counter() - began)


def _maker(object_type: ObjectType) -> Callable[..., BufferLike]:
    """What makes such an object of a size, as the functions of ``generate`` do."""
    if object_type == "random" or object_type == "zeros":  # noqa: PLR1714 - mypy follows it
        return functools.partial(generate.payload, kind=object_type)
    if object_type in get_args(ObjectType):
        maker: Callable[..., BufferLike] = getattr(generate, object_type)
        return maker
    raise OptionError(
        f"put: object_type is {object_type!r}, expected one of {', '.join(get_args(ObjectType))}.", field="object_type"
    )


def _count(field: str, value: object) -> int:
    if isinstance(value, SupportsIndex) and not isinstance(value, bool) and operator.index(value) >= 0:
        return operator.index(value)
    found = type(value).__name__ if isinstance(value, bytes | bytearray | memoryview) else repr(value)
    raise OptionError(
        f"put: {field} is {found}, expected a whole number >= 0. put generates objects; data of your own goes to "
        "put_bytes(uri, data).",
        field=field,
    )


def _check_seed(seed: object) -> None:
    if isinstance(seed, SupportsIndex) and not isinstance(seed, bool) and 0 <= operator.index(seed) < 1 << 64:
        return
    raise OptionError(f"put: seed is {seed!r}, expected a whole number from 0 to 2**64 - 1, or None.", field="seed")


def _ratio(name: str, value: object, object_type: ObjectType) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value < math.inf:
        raise OptionError(f"put: {name}_factor is {value!r}, expected a ratio of 1 or more.", field=f"{name}_factor")
    if object_type == "zeros" and value != 1:
        raise OptionError(
            f"put: {name}_factor is {value!r} for zeros, expected 1. Zeros always compress; use another object_type.",
            field=f"{name}_factor",
        )
    return value


def _names(template: str, num: int) -> list[str]:
    """The name of each object. About 100 bytes of memory each.

    Raises:
        OptionError: the template cannot be filled in, or gives a name twice.
    """
    names: dict[str, None] = {}  # in order
    for index in range(num):
        try:
            name = template.format(index, num)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise OptionError(
                f"put: template {template!r} cannot be filled in ({error}), expected one for str.format with the "
                "object's number: 'data_{:06d}.npz'.",
                field="template",
            ) from error
        if name in names:
            raise OptionError(
                f"put: template {template!r} gives the name {name!r} twice, expected {num} different ones. "
                "Put the object's number in: 'data_{:06d}.npz'.",
                field="template",
            )
        names[name] = None
    return list(names)
