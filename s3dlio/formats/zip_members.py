"""Read ZIP archives that are whole in memory: where the members are, and their bytes.

Owns: the end record (also the 64-bit one), the central directory, local headers, inflating, checksums. Must
not know: what the members hold. Strict where a reader that forgives would return other bytes: the directory
must fill its place exactly, local headers must agree with it, members must not overlap or share a name.

Source: APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from s3dlio.errors import FormatError

__all__ = ["Member", "member_bytes", "read_members"]

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_MAX_COMMENT_BYTES = 0xFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x0001, 0x0008, 0x0800
# Bits 1 and 2 say how hard the writer compressed; all others change the bytes' meaning and are refused.
_KNOWN_FLAGS = 0x0006 | _DESCRIPTOR | _UTF8


class Member(NamedTuple):
    """One file in the archive. Offsets count from the archive's first byte."""

    name: str
    method: int
    crc: int
    """CRC-32 of the inflated bytes."""
    size_bytes: int
    """Inflated."""
    header: int
    """Where the local header stands."""
    start: int
    """First byte of the stored or deflated data."""
    end: int
    """One past the last."""


def read_members(view: memoryview) -> list[Member]:
    """All members in the order of the central directory. Reads headers only, no data.

    Args:
        view: the whole archive and nothing else; an archive comment is fine.

    Raises:
        FormatError: not an archive, truncated, inconsistent, encrypted, in several parts, or compressed by a
            method other than deflate.
    """
    count, at, directory_end = _find_directory(view)
    directory_start = at
    members: list[Member] = []
    names: set[str] = set()
    while at < directory_end:
        member, at = _read_entry(view, at, directory_end)
        if member.name in names:
            raise _failure(member.header, f"a second member {member.name!r}", "each name once")
        names.add(member.name)
        members.append(member)
    if len(members) != count:
        raise _failure(directory_start, f"{len(members)} members", f"{count} by the end record")
    # Overlapping members are how a small archive inflates to terabytes; no writer makes them. With them out of
    # the way the last end is the largest, and bounds every range.
    end = 0
    for member in sorted(members, key=_by_header):
        if member.header < end:
            raise _failure(member.header, f"member {member.name!r} overlaps another", "members apart")
        end = member.end
    if end > directory_start:
        raise _failure(directory_start, "a member reaching into the directory", "members before it")
    return members


def member_bytes(view: memoryview, member: Member, *, verify: bool) -> tuple[memoryview, int, int]:
    """The inflated bytes of ``member``: a read-only view and the range of it that they are.

    A stored member is a range of ``view`` itself, without a copy; a deflated one is new memory, no larger than
    the size that the archive declares.

    Args:
        view: the archive.
        member: from ``read_members(view)``.
        verify: compare the CRC-32; about 0.3 s a GB, outside the interpreter lock.

    Raises:
        FormatError: the data does not inflate to the declared size, or its checksum differs.
    """
    start, end = member.start, member.end
    packed = view[start:end]
    if member.method == _DEFLATED:
        view, start, end = _inflate(packed, member), 0, member.size_bytes
        packed = view
    if verify and zlib.crc32(packed) != member.crc:
        raise _failure(
            member.start,
            f"member {member.name!r} with CRC-32 {zlib.crc32(packed):08x}",
            f"{member.crc:08x}",
        )
    return view, start, end


def _inflate(packed: memoryview, member: Member) -> memoryview:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than declared: enough to see that there is more, and to let the stream end.
        data = inflater.decompress(packed, member.size_bytes + 1)
    except zlib.error as error:
        raise _failure(member.start, f"member {member.name!r} does not inflate ({error})", "deflated data") from error
    if len(data) != member.size_bytes or not inflater.eof or inflater.unused_data:
        found = f"{len(data)} bytes{'' if inflater.eof else ' and no end'}"
        if inflater.eof and inflater.unused_data:
            found += f" and {len(inflater.unused_data)} bytes after the end"
        raise _failure(member.start, f"member {member.name!r} inflates to {found}", f"{member.size_bytes} bytes")
    return memoryview(data)


def _find_directory(view: memoryview) -> tuple[int, int, int]:
    """Number of entries, first byte and end of the central directory."""
    end_at = _find_end(view)
    _, disk, start_disk, here, count, size, start, _ = _END.unpack_from(view, end_at)
    stop = end_at
    locator_at = end_at - _END64_LOCATOR.size
    if locator_at >= 0 and bytes(view[locator_at : locator_at + 4]) == b"PK\x06\x07":
        stop, wide = _read_end64(view, locator_at)
        narrow = (disk, start_disk, here, count, size, start)
        limits = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        for value, full, limit in zip(narrow, wide, limits, strict=True):
            if value not in {full, limit}:
                raise _failure(end_at, f"{value} in the end record", f"{full} as in its 64-bit one")
        disk, start_disk, here, count, size, start = wide
    if disk or start_disk or here != count:
        raise _failure(end_at, "one part of several", "an archive in one part")
    if start + size != stop:
        raise _failure(end_at, f"a directory at [{start}, {start + size})", f"one that ends at {stop}")
    return count, start, stop


def _find_end(view: memoryview) -> int:
    """Where the end record stands: with its comment it must end with the archive."""
    total = view.nbytes
    tail_at = max(0, total - _END.size - _MAX_COMMENT_BYTES)
    tail = bytes(view[-_END.size :]) if total >= _END.size else b""
    if tail.startswith(b"PK\x05\x06") and tail.endswith(b"\0\0"):
        return total - _END.size
    tail = bytes(view[tail_at:])
    at = len(tail)
    while (at := tail.rfind(b"PK\x05\x06", 0, at)) >= 0:
        if at + _END.size <= len(tail):
            comment_bytes = int.from_bytes(tail[at + 20 : at + 22], "little")
            if at + _END.size + comment_bytes == len(tail):
                return tail_at + at
    raise _failure(total, "no end record", "a ZIP archive that ends with one")


def _read_end64(view: memoryview, locator_at: int) -> tuple[int, tuple[int, ...]]:
    """Where the 64-bit end record stands, and its disks, counts, size and start."""
    _, disk, at, disks = _END64_LOCATOR.unpack_from(view, locator_at)
    if disk or disks != 1:
        raise _failure(locator_at, f"{disks} parts", "an archive in one part")
    if at + _END64.size > locator_at or bytes(view[at : at + 4]) != b"PK\x06\x06":
        raise _failure(locator_at, f"no 64-bit end record at {at}", "one where its locator says")
    _, size, _, _, *wide = _END64.unpack_from(view, at)
    if at + 12 + size != locator_at:
        raise _failure(at, f"a 64-bit end record of {size} bytes", f"{locator_at - at - 12}")
    return at, tuple(wide)


def _read_entry(view: memoryview, at: int, limit: int) -> tuple[Member, int]:
    """The member whose directory entry stands at ``at``, and where the next entry does."""
    if at + _ENTRY.size > limit:
        raise _failure(at, "a cut directory entry", f"{_ENTRY.size} bytes")
    (
        signature, _, _, flags, method, _, _, crc, packed_bytes, size_bytes,
        name_bytes, extra_bytes, comment_bytes, disk, _, _, header,
    ) = _ENTRY.unpack_from(view, at)  # fmt: skip
    name_at = at + _ENTRY.size
    extra_at = name_at + name_bytes
    following = extra_at + extra_bytes + comment_bytes
    if signature != b"PK\x01\x02" or following > limit:
        raise _failure(at, f"{signature!r}", "a directory entry that ends within the directory")
    raw_name = bytes(view[name_at:extra_at])
    name = _text(raw_name, flags, name_at)
    if 0xFFFFFFFF in {size_bytes, packed_bytes, header} or disk == 0xFFFF:
        extra = bytes(view[extra_at : extra_at + extra_bytes])
        size_bytes, packed_bytes, header, disk = _widen(extra, extra_at, size_bytes, packed_bytes, header, disk)
    if disk:
        raise _failure(at, f"member {name!r} in part {disk}", "an archive in one part")
    if flags & ~_KNOWN_FLAGS:
        kind = "encrypted" if flags & _ENCRYPTED else f"with flags {flags:#06x}"
        raise _failure(at, f"member {name!r} is {kind}", "a plain one")
    if method not in {_STORED, _DEFLATED}:
        raise _failure(at, f"member {name!r} with compression {method}", "0 (stored) or 8 (deflated)")
    if method == _STORED and size_bytes != packed_bytes:
        raise _failure(at, f"member {name!r} stored in {packed_bytes} bytes", f"{size_bytes}")
    if header + _LOCAL.size > limit:
        raise _failure(at, f"member {name!r} at byte {header}", f"one before {limit}")
    start = _check_local(view, header, raw_name, flags, method)
    return Member(name, method, crc, size_bytes, header, start, start + packed_bytes), following


def _check_local(view: memoryview, at: int, raw_name: bytes, flags: int, method: int) -> int:
    """Where the data after the local header at ``at`` starts. Sizes there may be blank; the rest must agree."""
    signature, _, local_flags, local_method, _, _, _, _, _, name_bytes, extra_bytes = _LOCAL.unpack_from(view, at)
    name_at = at + _LOCAL.size
    extra_at = name_at + name_bytes
    if signature != b"PK\x03\x04":
        raise _failure(at, f"{signature!r}", f"the local header of member {raw_name!r}")
    if bytes(view[name_at:extra_at]) != raw_name or local_method != method or local_flags != flags:
        raise _failure(at, "a local header that differs", f"the directory's member {raw_name!r}")
    return int(extra_at + extra_bytes)


def _widen(extra: bytes, extra_at: int, *narrow: int) -> list[int]:
    """Size, packed size, header offset and disk, the full ones taken from the 64-bit extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1:
            field = extra[at : at + size]
            break
        at += size
    else:
        raise _failure(extra_at, "no 64-bit field", "one for a member this large")
    wide: list[int] = []
    for value, limit, width in zip(narrow, (0xFFFFFFFF,) * 3 + (0xFFFF,), (8, 8, 8, 4), strict=True):
        if value != limit:
            wide.append(value)
            continue
        if len(field) < width:
            raise _failure(extra_at, "a short 64-bit field", f"{width} bytes more")
        wide.append(int.from_bytes(field[:width], "little"))
        field = field[width:]
    return wide


def _text(raw: bytes, flags: int, at: int) -> str:
    try:
        return raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise _failure(at, f"name {raw!r}", "UTF-8, as its flag says") from error


def _by_header(member: Member) -> int:
    return member.header


def _failure(offset: int, found: str, expected: str) -> FormatError:
    return FormatError(
        f"decode zip at byte {offset}: {found}, expected {expected}. "
        "The object is truncated, corrupt or of another format; write it again.",
        offset=offset,
    )
