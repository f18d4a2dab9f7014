"""The manifest: one JSON object that says what a checkpoint holds, with a digest over itself.

Owns: its bytes, and what is checked when they are read. Must not know: stores, when it is written.

The file is the JSON of everything but the digest, whose closing brace is replaced by a last member
``"digest":"sha256:<hex>"}``: the digest is of the bytes before that member, so every flipped bit shows.

Guarantees: bytes that were cut or changed, another format and an unknown version are CheckpointErrors;
members that this version does not know are kept in ``document``.
"""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import json
import math
import re
from typing import TYPE_CHECKING, Any

from s3dlio.checkpoint.blocks import BlockRead
from s3dlio.errors import CheckpointError

if TYPE_CHECKING:
    from s3dlio.arrays import Array

__all__ = ["FORMAT", "VERSION", "Entry", "File", "Manifest", "sealed", "unsealed"]

FORMAT = "s3dlio-checkpoint"
VERSION = 1

_SEAL = re.compile(rb',"digest":"sha256:([0-9a-f]{64})"\}\n')
_SEAL_BYTES = len(',"digest":"sha256:"}\n') + 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An array of the checkpoint."""

    dtype: str
    """Logical name; ``dtypes.named_dtype`` gives the dtype."""
    shape: tuple[int, ...]
    file: str
    """Path inside the step's directory."""
    begin: int
    end: int
    """The array's bytes are [begin, end) of the file, little-endian and in C order."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of the checkpoint and the checksums of its blocks."""

    size: int
    ends: tuple[int, ...]
    crc32c: tuple[int, ...]

    def reads(self, key: str, begin: int, end: int, arrays: tuple[str, ...], target: Array | None) -> list[BlockRead]:
        """The blocks of [begin, end), which must be whole blocks; ``target`` takes their bytes."""
        first = bisect.bisect_right(self.ends, begin)
        last = bisect.bisect_right(self.ends, end)
        starts = (begin, *self.ends[first:last])
        return [
            BlockRead(
                key=key,
                index=index,
                begin=start,
                end=self.ends[index],
                crc32c=self.crc32c[index],
                file_bytes=self.size,
                arrays=arrays,
                target=None if target is None else target[start - begin : self.ends[index] - begin],
            )
            for index, start in zip(range(first, last), starts, strict=False)
        ]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest that was read and found whole."""

    document: dict[str, Any]
    """The JSON object, with the members that this version does not know."""
    entries: dict[str, Entry]
    files: dict[str, File]

    @classmethod
    def parse(cls, data: bytes, uri: str) -> Manifest:
        """The manifest in ``data``, which was read from ``uri``.

        Raises:
            CheckpointError: truncated, changed, of another format or version, or not consistent in itself.
        """
        document = unsealed(data, uri)
        if document.get("format") != FORMAT:
            raise CheckpointError(
                f"load {uri}: the format is {document.get('format')!r}, expected {FORMAT!r}. It is no checkpoint."
            )
        if document.get("version") != VERSION:
            raise CheckpointError(
                f"load {uri}: the version is {document.get('version')!r}, expected {VERSION}. Update s3dlio."
            )
        try:
            files = {path: _file(path, value) for path, value in document["files"].items()}
            entries = {name: _entry(value, files) for name, value in document["entries"].items()}
            for name, kind in (("objects", dict), ("trees", dict), ("metadata", dict), ("attempt", str)):
                if not isinstance(document[name], kind):
                    raise ValueError(f"{name} is no {kind.__name__}")  # noqa: TRY301, TRY004 - told as one error below
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"load {uri}: {type(error).__name__} {error}, expected a manifest of version {VERSION}. "
                "What wrote it is not s3dlio; load another checkpoint."
            ) from error
        return cls(document=document, entries=entries, files=files)


def sealed(document: dict[str, Any]) -> bytes:
    """The bytes of a JSON object with its digest as the last member. ``document`` must not be empty."""
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + b',"digest":"sha256:%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def unsealed(data: bytes, uri: str) -> dict[str, Any]:
    """The JSON object in ``data`` without its digest.

    Raises:
        CheckpointError: the digest is missing or another; the bytes were cut or changed.
    """
    body, seal = data[:-_SEAL_BYTES], _SEAL.fullmatch(data[-_SEAL_BYTES:])
    if seal is None or hashlib.sha256(body).hexdigest().encode() != seal[1]:
        found = "no digest at its end" if seal is None else "another digest than it says"
        raise CheckpointError(
            f"load {uri}: {len(data)} bytes with {found}, expected a whole manifest. "
            "It was truncated or changed; load another checkpoint."
        )
    try:
        document = json.loads(body + b"}")
    except ValueError as error:
        raise CheckpointError(f"load {uri}: {error}, expected JSON. It is no checkpoint.") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"load {uri}: got {type(document).__name__}, expected a JSON object.")
    return document


def _file(path: str, value: dict[str, Any]) -> File:
    ends, crc32c = tuple(value["ends"]), tuple(value["crc32c"])
    rising = all(a < b for a, b in zip((0, *ends), ends, strict=False))
    inside = ".." not in path.split("/") and not path.startswith("/")
    if not inside or not rising or len(ends) != len(crc32c) or value["size"] != (ends[-1] if ends else 0):
        raise ValueError(f"the blocks of file {path!r} do not fit")
    return File(size=value["size"], ends=ends, crc32c=crc32c)


def _entry(value: dict[str, Any], files: dict[str, File]) -> Entry:
    shape = tuple(value["shape"])
    (chunk,) = value["chunks"]  # a later version may cut an array into several
    begin, end, file = chunk["begin"], chunk["end"], files[chunk["file"]]
    edges = {0, *file.ends}
    if tuple(chunk["shape"]) != shape or begin not in edges or end not in edges or not begin <= end:
        raise ValueError(f"the chunk {chunk} does not fit")
    if min(shape, default=0) < 0 or (math.prod(shape) == 0) != (begin == end):
        raise ValueError(f"the shape {shape} does not fit")
    return Entry(dtype=value["dtype"], shape=shape, file=chunk["file"], begin=begin, end=end)
